//! Tickets: what is left at one node and taken once, at any.
//!
//! A ticket stands for what was left for as long as [`TICKET_LIFE`]. It is kept in the memory of the
//! node that gave it out, so that it can't be used twice, and is gone with that node.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use rand::RngExt;

use crate::clock::Instant;
use crate::panics::lock;

/// How long a ticket waits to be used.
pub const TICKET_LIFE: Duration = Duration::from_secs(60);

/// What every ticket begins with, so that it is known for what it is where it turns up.
const PREFIX: &str = "fft_";

/// The tickets that one node gave out.
#[derive(Debug)]
pub(super) struct Tickets {
    max: usize,
    issued: Mutex<Issued>,
}

#[derive(Debug, Default)]
struct Issued {
    /// What was left for those that were not used.
    left: HashMap<String, String>,
    /// All that were given out, the oldest first, with when they end.
    given: VecDeque<(Instant, String)>,
}

impl Tickets {
    /// Gives out at most `max` tickets in the life of one.
    pub(super) fn new(max: usize) -> Self {
        Self { max, issued: Mutex::default() }
    }

    /// Whether this has the form of a ticket.
    pub(super) fn may_be(ticket: &str) -> bool {
        let random = ticket.strip_prefix(PREFIX);
        random
            .is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }

    /// Leaves something for whoever shows the ticket, which nobody can guess; none where too many
    /// were given out.
    pub(super) fn leave(&self, what: String, now: Instant) -> Option<String> {
        let mut issued = lock(&self.issued);
        issued.forget_expired(now);
        if issued.given.len() >= self.max {
            return None;
        }
        let ticket = format!("{PREFIX}{:032x}", rand::rng().random::<u128>());
        issued.left.insert(ticket.clone(), what);
        issued.given.push_back((now + TICKET_LIFE, ticket.clone()));
        Some(ticket)
    }

    /// Takes what was left for a ticket.
    pub(super) fn take(&self, ticket: &str, now: Instant) -> Option<String> {
        let mut issued = lock(&self.issued);
        issued.forget_expired(now);
        issued.left.remove(ticket)
    }
}

impl Issued {
    fn forget_expired(&mut self, now: Instant) {
        let expired = self.given.iter().take_while(|(until, _)| *until <= now).count();
        for (_, ticket) in self.given.drain(..expired) {
            self.left.remove(&ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_for_a_time() {
        let (tickets, now) = (Tickets::new(10), Instant::now());
        let ticket = tickets.leave("coat".to_owned(), now).unwrap();
        assert!(Tickets::may_be(&ticket));
        assert_eq!(tickets.take(&ticket, now).as_deref(), Some("coat"));
        assert_eq!(tickets.take(&ticket, now), None);
        let late = tickets.leave("hat".to_owned(), now).unwrap();
        assert_eq!(tickets.take(&late, now + TICKET_LIFE), None);
        for other in ["", "fft_", "coat", "fft_0123", &ticket.replace("fft_", "fft-")] {
            assert!(!Tickets::may_be(other), "{other}");
            assert_eq!(tickets.take(other, now), None);
        }
    }

    #[test]
    fn only_so_many_are_given_out_and_the_expired_make_room() {
        let (tickets, now) = (Tickets::new(2), Instant::now());
        let first = tickets.leave("1".to_owned(), now).unwrap();
        assert!(tickets.leave("2".to_owned(), now + TICKET_LIFE / 2).is_some());
        assert!(tickets.take(&first, now).is_some());
        assert!(tickets.leave("3".to_owned(), now + TICKET_LIFE / 2).is_none());
        assert!(tickets.leave("3".to_owned(), now + TICKET_LIFE).is_some());
        assert!(tickets.leave("4".to_owned(), now + TICKET_LIFE).is_none());
        assert_eq!(tickets.issued.lock().unwrap().left.len(), 2);
    }
}
