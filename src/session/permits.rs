//! Room for sessions: in total, for one address and for one user, and how fast they may come.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::auth::network;
use crate::config::Limits;
use crate::metrics::{GUARD, Rate};
use crate::model::{Allowance, Code, Problem};
use crate::panics::lock;

/// How many addresses that connected lately are remembered before the idle ones are forgotten.
const FEW: usize = 1_024;

/// Seconds after which there may be room: what is counted may be gone already, and is found to be within a
/// minute.
const ROOM_SECONDS: u32 = 5;

const NO_ROOM: &str = "too many connections are open (limits.connections)";
const NO_ROOM_FOR_ADDRESS: &str =
    "too many connections of this address are open (limits.connections_per_address)";

/// The open sessions of a node, counted.
#[derive(Debug, Clone, Default)]
pub struct Permits(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    unparted: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    by_user: Mutex<HashMap<String, usize>>,
    arrivals: Mutex<HashMap<IpAddr, Allowance>>,
}

/// One open session; counted until dropped.
#[derive(Debug)]
pub struct Permit {
    permits: Permits,
    address: Option<IpAddr>,
}

/// One client to whom a last word is owed; counted until dropped.
#[derive(Debug)]
pub struct Unparted(Permits);

/// One session of a user; counted until dropped.
#[derive(Debug)]
pub struct UserPermit {
    permits: Permits,
    user: String,
}

impl Permits {
    /// How many sessions are open.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// How many clients are still owed their last word.
    pub fn unparted(&self) -> usize {
        self.0.unparted.load(Ordering::Relaxed)
    }

    /// Counts a client until its last word is out.
    pub fn owe_farewell(&self) -> Unparted {
        self.0.unparted.fetch_add(1, Ordering::Relaxed);
        Unparted(self.clone())
    }

    /// Refuses where there is no room for a session from an address now, and takes none.
    pub fn require_room(&self, address: Option<IpAddr>, limits: &Limits) -> Result<(), Problem> {
        if self.open() >= limits.connections {
            return Err(full(NO_ROOM));
        }
        let max = limits.connections_per_address;
        let Some(address) = address.map(network).filter(|_| max > 0) else { return Ok(()) };
        match lock(&self.0.by_address).get(&address).is_some_and(|open| *open >= max) {
            true => Err(full(NO_ROOM_FOR_ADDRESS)),
            false => Ok(()),
        }
    }

    /// Room for one more session from an address, or why there is none.
    pub fn take(&self, address: Option<IpAddr>, limits: &Limits) -> Result<Permit, Problem> {
        let address = address.map(network);
        if let Some(address) = address
            && !self.may_arrive(address, limits.connects_per_second)
        {
            GUARD.limited(Rate::Connects);
            let detail = "connections of this address come too fast (limits.connects_per_second)";
            return Err(Problem::new(Code::Unavailable, detail));
        }
        let taken = self.0.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
            (open < limits.connections).then_some(open + 1)
        });
        taken.map_err(|_| full(NO_ROOM))?;
        // From here on dropping it gives back what was taken.
        let mut permit = Permit { permits: self.clone(), address: None };
        if let Some(address) = address.filter(|_| limits.connections_per_address > 0) {
            let mut counts = lock(&self.0.by_address);
            if !count(&mut counts, address, limits.connections_per_address) {
                drop(counts);
                return Err(full(NO_ROOM_FOR_ADDRESS));
            }
            permit.address = Some(address);
        }
        Ok(permit)
    }

    /// Room for one more session of a user; none is needed where there is no limit.
    pub fn take_user(&self, user: &str, limits: &Limits) -> Result<Option<UserPermit>, Problem> {
        let max = limits.connections_per_user;
        if max == 0 {
            return Ok(None);
        }
        match count(&mut lock(&self.0.by_user), user.to_owned(), max) {
            true => Ok(Some(UserPermit { permits: self.clone(), user: user.to_owned() })),
            false => Err(full(
                "too many connections of this user are open (limits.connections_per_user)",
            )),
        }
    }

    fn may_arrive(&self, address: IpAddr, per_second: usize) -> bool {
        if per_second == 0 {
            return true;
        }
        let (mut arrivals, now) = (lock(&self.0.arrivals), Instant::now());
        if arrivals.len() >= FEW && arrivals.len().is_power_of_two() {
            arrivals.retain(|_, allowance| !allowance.is_idle(now));
        }
        arrivals.entry(address).or_default().take(1, per_second, now)
    }
}

fn full(detail: &str) -> Problem {
    Problem::new(Code::Unavailable, detail).passing_in(ROOM_SECONDS)
}

fn count<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K, max: usize) -> bool {
    let open = counts.entry(key).or_default();
    let has_room = *open < max;
    *open += usize::from(has_room);
    has_room
}

fn uncount<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(open) = counts.get_mut(key) {
        *open -= 1;
        if *open == 0 {
            counts.remove(key);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Permits(counts) = &self.permits;
        counts.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = &self.address {
            uncount(&mut lock(&counts.by_address), address);
        }
    }
}

impl Drop for Unparted {
    fn drop(&mut self) {
        self.0.0.unparted.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for UserPermit {
    fn drop(&mut self) {
        uncount(&mut lock(&self.permits.0.by_user), &self.user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
        let mut limits = Config::default().limits;
        change(&mut limits);
        limits
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_address_has_so_much_room_and_gets_it_back() {
        let (permits, limits) = (Permits::default(), limits(|l| l.connections_per_address = 2));
        let take = |text| permits.take(address(text), &limits);
        let (first, _second) = (take("10.0.0.1").unwrap(), take("10.0.0.1").unwrap());
        assert_eq!(take("10.0.0.1").unwrap_err().code, Code::Unavailable);
        let room = |text| permits.require_room(address(text), &limits).is_ok();
        assert_eq!((room("10.0.0.1"), room("10.0.0.2")), (false, true));
        let _other = take("10.0.0.2").unwrap();
        assert_eq!(permits.open(), 3, "a refusal takes no room");
        drop(first);
        let _again = take("::ffff:10.0.0.1").unwrap();
        assert!(take("10.0.0.1").is_err());
        let (_six, _same) = (take("2001:db8::1").unwrap(), take("2001:db8::2").unwrap());
        assert!(take("2001:db8::3").is_err(), "one network is one address");
        assert!(take("2001:db8:0:1::3").is_ok());
    }

    #[test]
    fn connections_of_an_address_come_only_so_fast() {
        let (permits, limits) = (Permits::default(), limits(|l| l.connects_per_second = 5));
        let taken = (0..20).filter(|_| permits.take(address("10.0.0.1"), &limits).is_ok()).count();
        assert_eq!(taken, 5);
        assert!(permits.take(address("10.0.0.2"), &limits).is_ok());
        assert_eq!(permits.open(), 0);
    }

    #[test]
    fn a_user_has_so_much_room() {
        let (permits, limits) = (Permits::default(), limits(|l| l.connections_per_user = 1));
        let first = permits.take_user("ada", &limits).unwrap();
        assert!(permits.take_user("ada", &limits).is_err());
        assert!(permits.take_user("bob", &limits).is_ok());
        drop(first);
        assert!(permits.take_user("ada", &limits).is_ok());
        assert!(permits.0.by_user.lock().unwrap().is_empty());
    }
}
