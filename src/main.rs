//! The `fanfare` program.

use std::process::ExitCode;

/// Gives back what a crowd has had once it is gone, which the allocator of glibc does not: docs/benchmarks.md.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    fanfare::cli::run()
}
