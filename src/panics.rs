//! What a panic means: the end of one connection, or of the process, in order.
//!
//! A panic is a fault of ours, and whatever it has interrupted may be half done. So by default it ends the
//! process as SIGTERM does, with everybody told, but with an exit code that says so. What belongs to one
//! connection alone is [`contained`]: its panic ends that connection, and what it held is given back as it is
//! dropped. Inside it, what many share is not: a call to a worker is [`vital`], and a lock is taken by
//! [`lock`], [`read`] or [`write()`], which know of one that was held during a panic.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{
    Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::error;

use crate::lines::STANDARD_ERROR;

thread_local! {
    /// Whether a panic here and now is nobody else's business.
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// How long the process may take to end once a part of it has panicked; not set, nobody listens.
static PATIENCE: OnceLock<Duration> = OnceLock::new();

static IS_BROKEN: AtomicBool = AtomicBool::new(false);

static BROKEN: Notify = Notify::const_new();

/// Has panics logged, and the process ended by force where it has not ended `patience` after one that
/// is not contained.
pub fn watch(patience: Duration) {
    _ = PATIENCE.set(patience);
    set_hook(Box::new(|panic| {
        log(panic);
        if !IS_CONTAINED.get() {
            break_down();
        }
    }));
}

fn log(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let place = panic.location().map_or_else(String::new, ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    let (name, said) = (thread.name().unwrap_or_default(), said(panic.payload()));
    error!(thread = name, place, "panicked: {said}{backtrace}");
}

fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default()
}

/// Whether a part of the broker has panicked, so that the process has to end.
pub fn is_broken() -> bool {
    IS_BROKEN.load(Ordering::Acquire)
}

/// Waits until [`is_broken`]; for one who waits.
pub async fn broken() {
    while !is_broken() {
        BROKEN.notified().await;
    }
}

fn break_down() {
    if IS_BROKEN.swap(true, Ordering::AcqRel) {
        return;
    }
    BROKEN.notify_one();
    let Some(patience) = PATIENCE.get() else { return };
    // Where there is no thread for it, an orderly end is all there is.
    _ = thread::Builder::new().name("last-resort".to_owned()).spawn(move || {
        thread::sleep(*patience);
        error!("the broker did not stop in order within {patience:?} after a panic");
        STANDARD_ERROR.settle();
        std::process::exit(1);
    });
}

/// Sets what a panic is until it is dropped.
struct Meaning(bool);

impl Meaning {
    fn set(is_contained: bool) -> Self {
        Self(IS_CONTAINED.replace(is_contained))
    }
}

impl Drop for Meaning {
    fn drop(&mut self) {
        IS_CONTAINED.set(self.0);
    }
}

/// Does what concerns nobody else; nothing where it panicked.
pub fn contain<R>(work: impl FnOnce() -> R) -> Option<R> {
    let _meaning = Meaning::set(true);
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Does something that nobody can go on without, within what is contained too.
pub fn vital<R>(work: impl FnOnce() -> R) -> R {
    let _meaning = Meaning::set(false);
    work()
}

/// Takes a lock. Where its holder has panicked, what it protects may be half done; others go by that, so the process
/// has to end.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(half_done)
}

/// Takes a lock to read, as [`lock`] does.
pub fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(half_done)
}

/// Takes a lock to write, as [`lock`] does.
pub fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(half_done)
}

/// Gives a lock away until there is word, and takes it again as [`lock`] does.
pub fn wait<'a, T>(word: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    word.wait(guard).unwrap_or_else(half_done)
}

/// The same, but no longer than for some time.
pub fn wait_at_most<'a, T>(
    patience: Duration,
    word: &Condvar,
    guard: MutexGuard<'a, T>,
) -> MutexGuard<'a, T> {
    word.wait_timeout(guard, patience).unwrap_or_else(half_done).0
}

fn half_done<G>(poisoned: PoisonError<G>) -> G {
    break_down();
    poisoned.into_inner()
}

/// Lives through `work`, which concerns nobody else; its outcome is nothing where it panicked.
pub fn contained<F: Future + Unpin>(work: F) -> Contained<F> {
    Contained(work)
}

/// The future of [`contained`].
pub struct Contained<F>(F);

impl<F: Future + Unpin> Future for Contained<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match contain(|| Pin::new(&mut self.0).poll(cx)) {
            Some(poll) => poll.map(Some),
            None => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{poll_fn, ready};

    #[test]
    fn what_is_contained_ends_alone_and_leaves_things_as_they_were() {
        assert_eq!(contain(|| 1), Some(1));
        assert_eq!(contain(|| -> u8 { panic!("one of a test") }), None);
        let within = contain(|| (IS_CONTAINED.get(), vital(|| IS_CONTAINED.get())));
        assert_eq!((within, IS_CONTAINED.get()), (Some((true, false)), false));
    }

    #[actix_web::test]
    async fn a_task_that_is_contained_ends_with_nothing_where_it_panics() {
        assert_eq!(contained(ready(1)).await, Some(1));
        let panics = poll_fn(|_| -> Poll<()> { panic!("one of a test") });
        assert_eq!(contained(panics).await, None);
        assert!(!IS_CONTAINED.get());
    }

    #[actix_web::test]
    async fn a_lock_that_a_panic_has_left_half_done_is_everybodys() {
        let lock = Mutex::new(1);
        let panicked = contain(|| {
            let _held = lock.lock();
            panic!("one of a test")
        });
        assert_eq!(panicked, None::<()>);
        assert_eq!(*super::lock(&lock), 1);
        broken().await;
    }
}
