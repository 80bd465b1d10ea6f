//! How long each step of an event's road takes: `cargo bench --bench steps_time`.

#[path = "steps.rs"]
mod steps;

fn main() {
    divan::main();
}

#[divan::bench(args = steps::STEPS.iter().map(|(name, _)| *name))]
fn step(bencher: divan::Bencher<'_, '_>, name: &str) {
    bencher.bench_local(steps::step(name).expect("a step"));
}
