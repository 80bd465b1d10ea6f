//! Everything that reads bytes from outside, over the kept corpus and mutations of it.
//!
//! `fuzz/` has the same targets for `cargo fuzz`, which needs a nightly compiler and finds more.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

/// What is done to bytes.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Join(Index),
}

fn change() -> impl Strategy<Value = Change> {
    use Change::{Flip, Insert, Join, Remove, Repeat, Set};
    let place = any::<Index>;
    // Bytes that mean something to one of the parsers.
    let special =
        prop::sample::select(b"\0\t\n\r \"%&*+,-./09:;<=>[\\]_{|}~\x7f\x80\x9f\xbf\xff".to_vec());
    let byte = prop_oneof![any::<u8>(), special];
    prop_oneof![
        (place(), 0..8_u8).prop_map(|(at, bit)| Flip(at, bit)),
        (place(), byte.clone()).prop_map(|(at, byte)| Set(at, byte)),
        (place(), prop::collection::vec(byte, 1..6)).prop_map(|(at, bytes)| Insert(at, bytes)),
        (place(), 1..16_usize).prop_map(|(at, count)| Remove(at, count)),
        (place(), 1..16_usize, 2..40_usize)
            .prop_map(|(at, length, times)| Repeat(at, length, times)),
        place().prop_map(Join),
    ]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
        let place = |at: &Index| at.index(bytes.len() + 1);
        match self {
            Self::Flip(at, bit) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Self::Set(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Self::Flip(..) | Self::Set(..) => {}
            Self::Insert(at, more) => {
                let at = place(at);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = place(at);
                bytes.drain(at..bytes.len().min(at + count));
            }
            Self::Repeat(at, length, times) => {
                let at = place(at);
                let part = bytes[at..bytes.len().min(at + length)].repeat(*times);
                bytes.splice(at..at, part);
            }
            Self::Join(at) => bytes.extend_from_slice(&others[at.index(others.len())]),
        }
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|_| panic!("{} is missing", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a file")).collect()
}

#[test]
fn whatever_comes_from_outside_is_read_or_refused() {
    let cases = std::env::var("FANFARE_FUZZ_CASES").map(|cases| cases.parse().expect("a number"));
    for (name, target) in targets::TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name} has nothing to start from");
        corpus.iter().for_each(|bytes| target(bytes));
        let config = Config { cases: cases.clone().unwrap_or(3_000), ..Config::default() };
        let bytes = (any::<Index>(), prop::collection::vec(change(), 0..8));
        let outcome = TestRunner::new(config).run(&bytes, |(seed, changes)| {
            let mut bytes = corpus[seed.index(corpus.len())].clone();
            changes.iter().for_each(|change| change.apply(&mut bytes, &corpus));
            target(&bytes);
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
