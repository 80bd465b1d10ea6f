//! The sockets of a node: one count over all its threads and listeners, and one for each address.
//!
//! At a limit the socket that has let the broker wait for longest makes room for the one that comes:
//! waiting is a socket on which no request is being answered, whether it sends nothing or a head or a
//! body that does not come to an end; first those on which none ever was. Sessions wait for us, never we for them. Where nobody can make
//! room, a few more are taken (`Limits::with_spare`), and the next is turned away.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use futures_util::future::poll_fn;
use futures_util::task::AtomicWaker;

use crate::auth::{Entrance, network};
use crate::config::Limits;
use crate::metrics::{Asker, Metrics};
use crate::model::{Code, Problem};
use crate::panics::lock;

/// The most sockets that are looked at for one that can make room.
const MAX_LOOKS: usize = 64;

/// What is added to the count of what a socket does once it is to be closed.
const CLOSING: usize = 1 << (usize::BITS - 1);

/// What is added to the time of a socket on which a request has been answered: those on which none ever was make
/// room before, so that a crowd that only connects costs nobody who is known a connection.
const KNOWN: u64 = 1 << 63;

/// The files that are kept for others than sockets: listeners, the history, the log.
const FILES_BESIDE: u64 = 100;

/// All sockets of a node.
#[derive(Debug, Clone)]
pub(super) struct Sockets(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    limit_of_address: usize,
    /// Orders what sockets do; no two have the same time.
    clock: AtomicU64,
    open: Mutex<Open>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Open {
    all: Crowd,
    by_address: HashMap<IpAddr, Crowd>,
}

/// Sockets that are counted together.
#[derive(Debug, Default)]
struct Crowd {
    count: usize,
    /// Of these, those that make room: they are to be closed, and are not yet.
    closing: usize,
    /// Those that may make room, by a time at or before which their waiting began.
    waiting: BTreeMap<u64, Arc<Activity>>,
}

/// One socket; counted until it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    // In this order: the last one out of a count takes the count with it.
    listed: Listed,
    counted: Counted,
    /// Who is at its other end, whether that is counted or not.
    peer: Option<IpAddr>,
}

/// The place of a socket among those that may make room, until this is dropped.
#[derive(Debug)]
struct Listed(Arc<Activity>);

/// What is left of a socket that a WebSocket has taken over: it is counted until this is dropped, and makes room for
/// nobody.
#[derive(Debug)]
pub(super) struct Counted {
    sockets: Sockets,
    address: Option<IpAddr>,
}

/// What one socket does.
#[derive(Debug)]
pub(super) struct Activity {
    sockets: Sockets,
    /// Whose it is, where that is counted.
    address: Option<IpAddr>,
    /// How many requests are being answered, and [`CLOSING`].
    busy: AtomicUsize,
    /// Since when none is, but for a body that is waited for.
    since: AtomicU64,
    /// Where it stands in the order of all sockets and of those of its address.
    listed: [AtomicU64; 2],
    waker: AtomicWaker,
}

/// Which order of [`Activity::listed`].
#[derive(Debug, Clone, Copy)]
enum Order {
    All,
    Address,
}

impl Sockets {
    /// Room for `limits.connections`, and of those for `limits.connections_per_address` of each address; but
    /// no more than the system lets this process have files.
    pub(super) fn new(limits: &Limits, metrics: Arc<Metrics>) -> Self {
        let files = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        let room = files.saturating_sub(FILES_BESIDE.min(files / 2));
        let limit = limits.connections.min(usize::try_from(room).unwrap_or(usize::MAX)).max(1);
        Self(Arc::new(Shared {
            limit,
            limit_of_address: limits.connections_per_address,
            clock: AtomicU64::new(0),
            open: Mutex::default(),
            metrics,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        lock(&self.0.open)
    }

    /// How many are open, and how many there may be.
    pub(super) fn open(&self) -> (usize, usize) {
        (self.lock().all.count, Limits::with_spare(self.0.limit))
    }

    fn now(&self) -> u64 {
        self.0.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a socket that was accepted, or says why it can't be served. That of a proxy of ours is in
    /// no count of an address, for it brings the requests of many.
    pub(super) fn take(
        &self,
        peer: Option<SocketAddr>,
        entrance: &Entrance,
    ) -> Result<Socket, Problem> {
        let full = |detail: &str| Problem::new(Code::Unavailable, detail);
        let address = peer.map(|peer| peer.ip()).filter(|address| !entrance.trusts(address));
        let address = address.filter(|_| self.0.limit_of_address > 0).map(network);
        let mut open = self.lock();
        let theirs = address.and_then(|address| open.by_address.get(&address));
        if theirs.is_some_and(|theirs| theirs.is_full(self.0.limit_of_address)) {
            let detail =
                "too many sockets of this address are open (limits.connections_per_address)";
            return Err(full(detail));
        }
        if open.all.is_full(self.0.limit) {
            return Err(full("too many sockets are open (limits.connections)"));
        }
        open.make_room(address, self);
        let activity = Arc::new(Activity {
            sockets: self.clone(),
            address,
            busy: AtomicUsize::new(0),
            since: AtomicU64::new(self.now()),
            listed: Default::default(),
            waker: AtomicWaker::new(),
        });
        open.all.enter(&activity, Order::All);
        if let Some(address) = address {
            open.by_address.entry(address).or_default().enter(&activity, Order::Address);
        }
        let counted = Counted { sockets: self.clone(), address };
        Ok(Socket { listed: Listed(activity), counted, peer: peer.map(|peer| peer.ip()) })
    }
}

impl Open {
    /// Has one closed where there are as many as there are to be, of the address or in all.
    fn make_room(&mut self, address: Option<IpAddr>, sockets: &Sockets) {
        let (limit, limit_of_address) = (sockets.0.limit, sockets.0.limit_of_address);
        let theirs = address.and_then(|address| self.by_address.get_mut(&address));
        let closed =
            theirs.and_then(|theirs| theirs.close_one(limit_of_address, Order::Address, sockets));
        self.note_closing(closed);
        let closed = self.all.close_one(limit, Order::All, sockets);
        self.note_closing(closed);
    }

    fn note_closing(&mut self, closed: Option<Arc<Activity>>) {
        let Some(closed) = closed else { return };
        self.all.closing += 1;
        let theirs = closed.address.and_then(|address| self.by_address.get_mut(&address));
        if let Some(theirs) = theirs {
            theirs.closing += 1;
        }
    }
}

impl Crowd {
    fn enter(&mut self, activity: &Arc<Activity>, order: Order) {
        self.count += 1;
        self.list(activity.clone(), order, activity.since.load(Ordering::Acquire));
    }

    /// A socket makes room for nobody any more.
    fn unlist(&mut self, activity: &Activity, order: Order) {
        self.closing -= usize::from(activity.is_closing());
        self.waiting.remove(&activity.listed[order as usize].load(Ordering::Relaxed));
    }

    fn list(&mut self, activity: Arc<Activity>, order: Order, at: u64) {
        activity.listed[order as usize].store(at, Ordering::Relaxed);
        self.waiting.insert(at, activity);
    }

    /// Whether not even those that are spare are left.
    fn is_full(&self, limit: usize) -> bool {
        self.count >= Limits::with_spare(limit)
    }

    /// Closes the one that has been waiting for longest, where there are as many as there are to be. What
    /// stands in the order is no later than the truth, so the first whose place is true is it; the
    /// others get their true places on the way.
    fn close_one(
        &mut self,
        limit: usize,
        order: Order,
        sockets: &Sockets,
    ) -> Option<Arc<Activity>> {
        if self.count - self.closing < limit {
            return None;
        }
        for _ in 0..MAX_LOOKS {
            let (at, activity) = self.waiting.pop_first()?;
            let since = activity.since.load(Ordering::Acquire);
            if since != at {
                self.list(activity, order, since);
            } else if activity.close() {
                return Some(activity);
            } else if !activity.is_closing() {
                // Busy: if it comes to wait again, that will be after now.
                self.list(activity, order, KNOWN + sockets.now());
            }
        }
        None
    }
}

impl Socket {
    /// What it does.
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.listed.0
    }

    /// Notes that what came on it was refused before there was a whole request.
    pub(super) fn note_refusal(&self, problem: &Problem) {
        let refusals = &self.counted.sockets.0.metrics.refusals;
        refusals.note(problem, Asker { head: None, address: self.peer });
    }

    /// Waits until it is to be closed.
    pub(super) async fn closing(&self) {
        poll_fn(|cx| self.activity().poll_closing(cx)).await;
    }

    /// Hands it over to a WebSocket, for which nothing but its count is kept.
    pub(super) fn hand_over(self) -> Counted {
        self.counted
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut open = self.0.sockets.lock();
        open.all.unlist(&self.0, Order::All);
        let theirs = self.0.address.and_then(|address| open.by_address.get_mut(&address));
        if let Some(theirs) = theirs {
            theirs.unlist(&self.0, Order::Address);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.sockets.lock();
        open.all.count -= 1;
        if let Some(address) = self.address
            && let Some(theirs) = open.by_address.get_mut(&address)
        {
            theirs.count -= 1;
            if theirs.count == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

impl Activity {
    /// A request is there to be answered.
    pub(super) fn begin(&self) {
        self.busy.fetch_add(1, Ordering::AcqRel);
    }

    /// A request waits for the rest of its body. That is no new time: what came in between was the
    /// client's to hurry.
    pub(super) fn pause(&self) {
        self.leave_off();
    }

    /// A request is answered.
    pub(super) fn end(&self) {
        self.since.store(KNOWN + self.sockets.now(), Ordering::Release);
        self.leave_off();
    }

    fn leave_off(&self) {
        if self.busy.fetch_sub(1, Ordering::AcqRel) == CLOSING + 1 {
            self.waker.wake();
        }
    }

    /// Has it closed, if nothing is being answered.
    fn close(&self) -> bool {
        let closed =
            self.busy.compare_exchange(0, CLOSING, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if closed {
            self.waker.wake();
        }
        closed
    }

    fn is_closing(&self) -> bool {
        self.busy.load(Ordering::Acquire) & CLOSING != 0
    }

    /// Whether it is to be closed now. A request that came just before that is answered first.
    pub(super) fn poll_closing(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.is_to_close() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether it is to be closed, and nothing is being answered any more.
    pub(super) fn is_to_close(&self) -> bool {
        self.busy.load(Ordering::Acquire) == CLOSING
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use futures_util::FutureExt;

    fn sockets(limit: usize, limit_of_address: usize) -> Sockets {
        let mut limits = Config::default().limits;
        (limits.connections, limits.connections_per_address) = (limit, limit_of_address);
        Sockets::new(&limits, Arc::default())
    }

    fn take(sockets: &Sockets, address: &str) -> Option<Socket> {
        let mut config = Config::default().server;
        config.trusted_proxies = vec!["10.9.0.0/16".parse().unwrap()];
        let peer = SocketAddr::new(address.parse().unwrap(), 5_000);
        sockets.take(Some(peer), &Entrance::new(false, &config)).ok()
    }

    fn is_closing(socket: &Socket) -> bool {
        socket.closing().now_or_never().is_some()
    }

    #[test]
    fn the_one_that_waits_for_longest_makes_room() {
        let sockets = sockets(3, 0);
        let [first, second, third] =
            ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|address| take(&sockets, address).unwrap());
        first.activity().begin();
        first.activity().end();
        second.activity().begin();
        let fourth = take(&sockets, "10.0.0.4").unwrap();
        let closing = |all: [&Socket; 4]| all.map(is_closing);
        assert_eq!(closing([&first, &second, &third, &fourth]), [false, false, true, false]);
        drop(third);
        let fifth = take(&sockets, "10.0.0.5").unwrap();
        // On the first one a request was answered once.
        assert_eq!(closing([&first, &second, &fourth, &fifth]), [false, false, true, false]);
        fifth.activity().begin();
        fifth.activity().end();
        drop(fourth);
        // It was busy when it was looked at, so that those come first that waited then.
        second.activity().pause();
        let sixth = take(&sockets, "10.0.0.6").unwrap();
        assert_eq!(closing([&first, &second, &fifth, &sixth]), [true, false, false, false]);
        sixth.activity().begin();
        drop(first);
        let seventh = take(&sockets, "10.0.0.7").unwrap();
        assert_eq!(closing([&second, &fifth, &sixth, &seventh]), [true, false, false, false]);
    }

    #[test]
    fn where_all_are_busy_a_few_more_are_taken_and_then_none() {
        let sockets = sockets(200, 0);
        let busy = |_| {
            let socket = take(&sockets, "10.0.0.1")?;
            socket.activity().begin();
            Some(socket)
        };
        let taken: Vec<_> = (0..400).filter_map(busy).collect();
        assert_eq!(taken.len(), 220);
        assert!(!taken.iter().any(is_closing));
        drop(taken);
        assert!(sockets.lock().all.waiting.is_empty());
        assert!(take(&sockets, "10.0.0.1").is_some());
    }

    #[test]
    fn an_address_has_its_own_room_and_a_proxy_has_that_of_all() {
        let sockets = sockets(100, 2);
        let own = ["10.0.0.1", "10.0.0.1", "10.0.0.1"].map(|own| take(&sockets, own).unwrap());
        assert_eq!(own.each_ref().map(is_closing), [true, false, false]);
        let other = take(&sockets, "10.0.0.2").unwrap();
        let proxy: Vec<_> = (0..20).filter_map(|_| take(&sockets, "10.9.0.1")).collect();
        assert!(proxy.len() == 20 && !proxy.iter().any(is_closing) && !is_closing(&other));
        drop((own, proxy, other));
        assert!(sockets.lock().by_address.is_empty());
        assert_eq!(sockets.lock().all.count, 0);
    }

    #[test]
    fn a_request_that_came_just_before_is_answered_first() {
        let sockets = sockets(1, 0);
        let first = take(&sockets, "10.0.0.1").unwrap();
        let _second = take(&sockets, "10.0.0.2").unwrap();
        first.activity().begin();
        assert!(!is_closing(&first));
        first.activity().end();
        assert!(is_closing(&first));
    }
}
