//! Clients that end at the same large event again and again.
//!
//! Many libraries hang up on a message over a size of their own. Such a client comes back with the cursor that it
//! has, meets the event again, and so on, for ever; at the broker each of these sessions looks like any other.
//! Pure state: whoever notes a session's end brings the clock.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::clock::Instant;
use crate::model::{Cursor, Quiet};
use crate::panics::lock;

/// An event from so many bytes of data on is large: the smallest default of a well-known library is 32 KiB for the
/// whole message.
pub const LARGE_BYTES: usize = 16 * 1024;

/// A client that ends so often within [`WHILE`] at the same event is told of.
const OFTEN: u32 = 3;

/// Within how long.
const WHILE: Duration = Duration::from_secs(60);

/// The most clients that are watched at a time; others are not.
const MAX_WATCHED: usize = 1_024;

/// The sessions of one node that ended behind a large event.
#[derive(Debug, Default)]
pub struct Stumbles(Mutex<Watch>);

#[derive(Debug, Default)]
struct Watch {
    watched: HashMap<Stumble, Times>,
    quiet: Quiet<()>,
}

/// Where a client stumbled: who came from where in the log, and what it met.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stumble {
    /// Its address, if that is known.
    pub address: Option<String>,
    /// The cursor that it came with.
    pub since: Cursor,
    /// The first large event after that.
    pub event: Cursor,
}

#[derive(Debug)]
struct Times {
    first: Instant,
    count: u32,
}

/// What is to be made of a session's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Nothing,
    /// To be counted.
    Count,
    /// To be counted, and logged.
    CountAndLog,
}

impl Stumbles {
    /// Notes that a client ended by itself behind a large event.
    pub fn note(&self, stumble: Stumble, now: Instant) -> Verdict {
        let Watch { watched, quiet } = &mut *lock(&self.0);
        let is_over = |times: &Times| now.saturating_duration_since(times.first) >= WHILE;
        if watched.len() >= MAX_WATCHED {
            watched.retain(|_, times| !is_over(times));
        }
        if watched.len() >= MAX_WATCHED && !watched.contains_key(&stumble) {
            return Verdict::Nothing;
        }
        let times = watched.entry(stumble).or_insert(Times { first: now, count: 0 });
        if is_over(times) {
            *times = Times { first: now, count: 0 };
        }
        times.count += 1;
        if times.count < OFTEN {
            return Verdict::Nothing;
        }
        match quiet.tell(1, now.into_std(), || ()) {
            Some(_) => Verdict::CountAndLog,
            None => Verdict::Count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stumble(address: &str, since: u64) -> Stumble {
        let at = |sequence| Cursor { sequence, ..Cursor::parse("abcdefgh-1-1").unwrap() };
        Stumble { address: Some(address.to_owned()), since: at(since), event: at(9) }
    }

    #[test]
    fn who_ends_at_the_same_event_three_times_in_a_minute_is_told_of_once_a_minute() {
        let (stumbles, start) = (Stumbles::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let note = |address, since, seconds| stumbles.note(stumble(address, since), at(seconds));
        assert_eq!(note("a", 1, 0), Verdict::Nothing);
        assert_eq!(note("a", 1, 20), Verdict::Nothing);
        assert_eq!((note("b", 1, 20), note("a", 2, 20)), (Verdict::Nothing, Verdict::Nothing));
        assert_eq!(note("a", 1, 40), Verdict::CountAndLog);
        assert_eq!(note("a", 1, 50), Verdict::Count);
        assert_eq!(note("a", 1, 70), Verdict::Nothing, "another minute begins");
        assert_eq!(note("a", 1, 71), Verdict::Nothing);
        assert_eq!(note("a", 1, 99), Verdict::Count, "something was logged 59 s ago");
        assert_eq!(note("a", 1, 100), Verdict::CountAndLog);
    }

    #[test]
    fn no_more_than_so_many_are_watched() {
        let (stumbles, now) = (Stumbles::default(), Instant::now());
        for since in 0..2 * MAX_WATCHED as u64 {
            stumbles.note(stumble("a", since), now);
        }
        assert_eq!(stumbles.0.lock().unwrap().watched.len(), MAX_WATCHED);
        stumbles.note(stumble("b", 0), now + WHILE);
        assert_eq!(stumbles.0.lock().unwrap().watched.len(), 1);
    }
}
