//! Lines of an input, read in a thread of their own.
//!
//! Reading blocks, and an end of the program must not wait for it: so a plain thread, which dies
//! with the process. What it has read and nobody took is bounded.

use std::io::{self, BufRead, Read};
use std::thread;

use tokio::sync::mpsc;

use crate::model::unmarked;

/// A line without its end, and without a byte order mark before it.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The input can't be read; no more lines come.
    #[error("standard input: {0}")]
    Io(#[from] io::Error),
    /// A line longer than [`MAX_LINE`]; others may follow.
    #[error("line {0} has more than 8 MiB")]
    TooLong(u64),
}

/// The longest line, as long as the largest request that a broker takes by default.
const MAX_LINE: u64 = 8 << 20;

/// How many lines may wait to be taken.
const WAITING: usize = 16;

/// Begins to read; the end of the lines is the end of the input.
pub fn read(input: impl BufRead + Send + 'static) -> mpsc::Receiver<Result<Line, InputError>> {
    let (lines, taken) = mpsc::channel(WAITING);
    thread::spawn(move || {
        for line in split(input) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    taken
}

/// The lines of an input up to its end or where it can't be read. A line that is too long is passed over.
fn split(mut input: impl BufRead) -> impl Iterator<Item = Result<Line, InputError>> {
    let mut number = 0;
    let mut last = Last::Whole;
    std::iter::from_fn(move || {
        let passed = match last {
            Last::Whole => Ok(()),
            Last::Cut => input.skip_until(b'\n').map(|_| ()),
            Last::Failed => return None,
        };
        number += 1;
        let line = passed.map_err(InputError::from).and_then(|()| next(&mut input, number));
        last = match &line {
            Ok(_) => Last::Whole,
            Err(InputError::TooLong(_)) => Last::Cut,
            Err(InputError::Io(_)) => Last::Failed,
        };
        line.transpose()
    })
}

/// What became of the line before.
enum Last {
    Whole,
    /// Its end is still to come.
    Cut,
    Failed,
}

fn next(input: &mut impl BufRead, number: u64) -> Result<Option<Line>, InputError> {
    let mut bytes = Vec::new();
    input.take(MAX_LINE + 1).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let ended = bytes.pop_if(|byte| *byte == b'\n').is_some();
    if !ended && bytes.len() as u64 > MAX_LINE {
        return Err(InputError::TooLong(number));
    }
    bytes.pop_if(|byte| *byte == b'\r');
    Ok(Some(Line { number, bytes: unmarked(&bytes).to_vec() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &'static [u8]) -> Vec<(u64, &'static str)> {
        let text = |line: Line| (line.number, &*String::from_utf8(line.bytes).unwrap().leak());
        split(input).map(|line| text(line.unwrap())).collect()
    }

    #[test]
    fn lines_end_with_either_line_break_or_the_input() {
        assert_eq!(lines(b"a\nb\r\n\nc"), [(1, "a"), (2, "b"), (3, ""), (4, "c")]);
        assert_eq!(lines(b"a\n"), [(1, "a")]);
        assert_eq!(lines(b"\xef\xbb\xbf[1]\n\xef\xbb\xbf\n"), [(1, "[1]"), (2, "")]);
        assert_eq!(lines(b""), []);
    }

    #[test]
    fn a_line_without_end_is_not_held_in_memory() {
        let mut read = split(io::BufReader::new(io::repeat(b'x')));
        assert!(matches!(read.next(), Some(Err(InputError::TooLong(1)))));
    }

    #[test]
    fn lines_go_on_behind_one_that_is_too_long() {
        let long = io::repeat(b'x').take(3 * MAX_LINE);
        let mut read = split(io::BufReader::new(b"a\n".chain(long).chain(&b"\nb\n"[..])));
        assert_eq!(read.next().unwrap().unwrap().number, 1);
        assert!(matches!(read.next(), Some(Err(InputError::TooLong(2)))));
        assert_eq!(read.next().unwrap().unwrap(), Line { number: 3, bytes: b"b".to_vec() });
        assert!(read.next().is_none());
    }
}
