//! Fanfare beside its peers, with the same work: `bench/compare.sh`, or
//! `cargo bench --bench compare -- [--quick] [--work NAME] [--peer NAME]`.
//!
//! Systems take turns within each round, so that what happens on the machine meanwhile happens to all
//! of them. What is printed are medians over the rounds; see bench/README.md.

#[path = "compare/certificate.rs"]
mod certificate;
#[path = "compare/dialects/mod.rs"]
mod dialects;
#[path = "limit.rs"]
mod limit;
#[path = "compare/peers.rs"]
mod peers;
#[path = "compare/run.rs"]
mod run;
#[path = "compare/table.rs"]
mod table;
#[path = "compare/trial.rs"]
mod trial;
#[path = "compare/works.rs"]
mod works;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;

use peers::{PEERS, Peer};
use table::{Absent, Trials};
use works::{Work, works};

/// Compares Fanfare with the systems that are found on this machine
#[derive(Debug, Parser)]
struct Options {
    /// Rounds [default: 5, or a single quick one]; medians of fewer than 5 are no result
    #[arg(long)]
    rounds: Option<usize>,
    /// Short rounds, to see that everything runs
    #[arg(long)]
    quick: bool,
    /// Only these works; may be repeated
    #[arg(long = "work", value_name = "NAME")]
    works: Vec<String>,
    /// Only these systems; may be repeated
    #[arg(long = "peer", value_name = "NAME")]
    peers: Vec<String>,
    /// Where the result is kept [default: bench/results, unless it is a quick one]
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    only: Option<Only>,
}

#[derive(Debug, clap::Subcommand)]
enum Only {
    /// Serve as the limit that others are compared with
    Limit {
        /// The port of 127.0.0.1
        port: u16,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.only {
        Some(Only::Limit { port }) => limit::serve(port).map_err(|error| error.to_string()),
        None => compare(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Result<(), String> {
    // Both ends of 10,000 connections are never in one process; the servers inherit this limit.
    _ = rlimit::increase_nofile_limit(u64::MAX);
    let chosen = |names: &[String], name: &str| names.is_empty() || names.iter().any(|n| n == name);
    let works: Vec<_> =
        works(options.quick).into_iter().filter(|work| chosen(&options.works, work.name)).collect();
    let peers: Vec<_> = PEERS.iter().filter(|peer| chosen(&options.peers, peer.name)).collect();
    if works.is_empty() || peers.is_empty() {
        return Err("there is no such work or no such system".into());
    }
    let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { 5 });
    let mut found = Findings::default();
    for round in 1..=rounds {
        for work in &works {
            for peer in &peers {
                eprintln!("round {round} of {rounds}: {} {}", work.name, peer.name);
                found.add(peer, work);
            }
        }
    }
    let systems: Vec<_> = peers.iter().map(|peer| peer.name).collect();
    let text = format!(
        "{}{}",
        about(options.quick, rounds, &found),
        table::markdown(&works, &systems, &found.trials, &found.absent)
    );
    println!("{text}");
    let kept = "bench/results".into();
    match options.out.clone().or((!options.quick).then_some(kept)) {
        Some(directory) => keep(&directory, &text, &works, &systems, &found),
        None => Ok(()),
    }
}

/// What was measured, and what could not be.
#[derive(Default)]
struct Findings {
    trials: Trials,
    absent: Absent,
    faults: Vec<String>,
}

impl Findings {
    fn add(&mut self, peer: &Peer, work: &Work) {
        match run::run(peer, work) {
            Ok(trial) => {
                for fault in trial.faults() {
                    let fault = format!("{} with {}: {fault}", peer.name, work.name);
                    eprintln!("  {fault}");
                    self.faults.push(fault);
                }
                self.trials.entry((work.name, peer.name)).or_default().push(trial);
            }
            Err(reason) => {
                eprintln!("  {reason}");
                self.absent.insert((work.name, peer.name), reason);
            }
        }
    }
}

/// The head of a result: where and when.
fn about(quick: bool, rounds: usize, found: &Findings) -> String {
    let date = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M");
    let mut text = format!("# Fanfare and its peers, {date}\n\n{}\n\n", machine());
    text += &format!(
        "{rounds}{} round{}, interleaved; the load comes from the same machine. How to read this: \
         [bench/README.md](../README.md).\n\n",
        if quick { " short" } else { "" },
        if rounds == 1 { "" } else { "s" }
    );
    let measured = |system| found.trials.keys().any(|(_, measured)| *measured == system);
    let never = found.absent.iter().filter(|((_, system), _)| !measured(*system));
    let reasons: BTreeMap<_, _> = never.map(|((_, system), reason)| (system, reason)).collect();
    for (system, reason) in reasons {
        text += &format!("Not measured: {system}. {reason}\n\n");
    }
    for fault in &found.faults {
        text += &format!("Lost: {fault}\n\n");
    }
    text
}

/// The machine in a line.
fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{count} × {model}, Linux {}", kernel.trim())
}

fn keep(
    directory: &PathBuf,
    text: &str,
    works: &[Work],
    systems: &[&'static str],
    found: &Findings,
) -> Result<(), String> {
    let date = jiff::Zoned::now().strftime("%Y-%m-%d-%H%M");
    let host = Command::new("uname").arg("-m").output().map_err(|error| error.to_string())?;
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let machine = String::from_utf8_lossy(&host.stdout).trim().to_owned();
    let name = format!("{date}-{machine}-{count}cpu");
    let rows: Vec<_> = works
        .iter()
        .flat_map(|work| table::rows(work, systems, &found.trials))
        .flat_map(|(_, rows)| rows)
        .collect();
    let json = serde_json::to_string_pretty(&rows).map_err(|error| error.to_string())?;
    let write = |end: &str, text: &str| {
        let path = directory.join(format!("{name}.{end}"));
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        eprintln!("kept as {}", path.display());
        Ok(())
    };
    fs::create_dir_all(directory).map_err(|error| error.to_string())?;
    write("md", text)?;
    write("json", &json)
}
