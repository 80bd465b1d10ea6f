//! Broker, sessions, auth and history together, in interleavings that follow from a seed.
//!
//! One thread, the real actors over virtual time, connections in memory, a history that is late, out
//! of step and wrong, clients that are cut at any await, and an operator who changes everything under
//! them. `FANFARE_MAZE_SECONDS` says for how long seeds are tried (40 by default), `FANFARE_MAZE_SEED`
//! replays one and prints its steps, `FANFARE_MAZE_THEME` tries one theme alone, `FANFARE_MAZE_FAULT` looks
//! for one kind of fault (`A2`), and `FANFARE_MAZE_SURVEY` goes on after a fault and counts the kinds.

mod clients;
mod history;
mod line;
mod model;
mod operator;
#[path = "../parrot/language.rs"]
mod parrot;
mod parrot_words;
mod pipe;
mod rights;
mod seed;
mod theme;
mod watch;
mod words;
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::theme::{Outcome, THEMES, Theme};

/// How long seeds are tried.
const SECONDS: u64 = 40;

/// Runs one seed on a thread of its own kind: an actix system whose time is virtual.
fn run(theme: &'static Theme, seed: u64, shows_all: bool) -> Outcome {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().expect("a runtime")
    };
    let system = actix_rt::System::with_tokio_rt(runtime);
    system.block_on(theme.run(seed, shows_all))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The themes that are to be tried.
fn themes() -> Vec<&'static Theme> {
    let wanted = variable("FANFARE_MAZE_THEME");
    let themes: Vec<_> = THEMES
        .iter()
        .filter(|theme| wanted.as_ref().is_none_or(|name| theme.name == name))
        .collect();
    assert!(!themes.is_empty(), "there is no such theme");
    themes
}

/// Which theme a seed is of.
fn theme_of(seed: u64, themes: &[&'static Theme]) -> &'static Theme {
    themes[seed as usize % themes.len()]
}

#[test]
fn no_interleaving_breaks_what_is_promised() {
    let themes = themes();
    if let Some(seed) = variable("FANFARE_MAZE_SEED") {
        let seed = seed.parse().expect("FANFARE_MAZE_SEED is a number");
        let outcome = run(theme_of(seed, &themes), seed, true);
        assert_eq!(outcome.fault, None);
        return;
    }
    let seconds = variable("FANFARE_MAZE_SECONDS")
        .map_or(SECONDS, |text| text.parse().expect("FANFARE_MAZE_SECONDS is a number of seconds"));
    let (start, mut steps, mut faults) = (Instant::now(), 0, BTreeMap::<String, usize>::new());
    let surveys = variable("FANFARE_MAZE_SURVEY").is_some();
    for seed in 1.. {
        if start.elapsed() > Duration::from_secs(seconds) {
            println!("{} seeds, {steps} steps, {} kinds of faults", seed - 1, faults.len());
            break;
        }
        let theme = theme_of(seed, &themes);
        let outcome = run(theme, seed, false);
        steps += outcome.steps;
        let Some(fault) = outcome.fault else { continue };
        let (name, after) = (theme.name, start.elapsed().as_secs_f64());
        let replay = match variable("FANFARE_MAZE_THEME") {
            Some(theme) => format!("FANFARE_MAZE_THEME={theme} FANFARE_MAZE_SEED={seed}"),
            None => format!("FANFARE_MAZE_SEED={seed}"),
        };
        let found = format!("{fault}\n\nseed {seed}, {name}, after {after:.1} s; {replay}");
        assert!(surveys, "{}\n\n{found}", outcome.tail);
        let kind: String = fault.chars().filter(|c| !c.is_ascii_digit()).take(24).collect();
        let times = faults.entry(kind).or_default();
        *times += 1;
        if *times == 1 {
            println!("{found}\n");
        }
    }
    println!("{faults:#?}");
}

#[test]
fn a_seed_says_all() {
    for (seed, theme) in (1..).zip(&THEMES) {
        let [first, second] = [0, 1].map(|_| run(theme, seed, false));
        assert_eq!(first.steps, second.steps, "{}", theme.name);
        assert_eq!(first.hash, second.hash, "{}", theme.name);
    }
}
