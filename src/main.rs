//! The `fanfare` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    fanfare::cli::run()
}
