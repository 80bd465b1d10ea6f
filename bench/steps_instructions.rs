//! How many instructions each step of an event's road takes: `cargo bench --bench steps_instructions`.
//!
//! Needs valgrind. Counts do not depend on what else the machine does, so a regression shows where
//! times are too noisy. With `-- --check` they are compared with `bench/results/instructions.tsv`, with
//! `-- --keep` they are written there. They are counts of one compiler and one kind of processor.

#[path = "steps.rs"]
mod steps;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

/// How often a step is done: the cost of one is the difference between doing it so often, and twice
/// as often.
const TIMES: u64 = 1_000;

/// How far a count may grow before it is a regression, as a factor.
const TOLERANCE: f64 = 1.05;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [step, name, times] = &arguments[..]
        && step == "--step"
    {
        let mut step = steps::step(name).expect("a step");
        (0..times.parse().expect("a number")).for_each(|_| step());
        return ExitCode::SUCCESS;
    }
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/results/instructions.tsv");
    let counts: Vec<_> = steps::STEPS.iter().map(|(name, _)| (*name, instructions(name))).collect();
    if arguments.iter().any(|argument| argument == "--keep") {
        let lines = counts.iter().map(|(name, count)| format!("{name}\t{count}\n"));
        std::fs::write(&kept, lines.collect::<String>()).expect("the results are kept");
    }
    let before = read(&kept);
    let mut grown = false;
    for (name, count) in &counts {
        let change = before.get(*name).map(|before| *count as f64 / *before as f64);
        grown |= change.is_some_and(|change| change > TOLERANCE);
        let change = change.map_or("new".to_owned(), |change| format!("{change:.2}x"));
        println!("{count:>9} instructions  {change:>6}  {name}");
    }
    let checks = arguments.iter().any(|argument| argument == "--check");
    if checks && grown { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn instructions(name: &str) -> u64 {
    (counted(name, 2 * TIMES) - counted(name, TIMES)) / TIMES
}

/// Has valgrind count what a process of this program takes to do a step so often.
fn counted(name: &str, times: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--step", name, &times.to_string()])
        .output()
        .expect("valgrind runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    collected.and_then(|(_, count)| count.trim().parse().ok()).expect("a count")
}

fn read(path: &Path) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let entries = text.lines().filter_map(|line| line.split_once('\t'));
    entries.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?))).collect()
}
