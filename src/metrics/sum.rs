//! A counter that many threads count on at once, each in its own place: what they counted is added up when it is read.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// How many threads count apart from each other; more share places.
pub(super) const PLACES: usize = 16;

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % PLACES);
}

/// The place of the current thread.
pub(super) fn place() -> usize {
    PLACE.get()
}

/// A counter. Clones are the same one.
#[derive(Clone, Default)]
pub struct Sum(Arc<[Place; PLACES]>);

/// What one thread counted, on a line of the cache of its own.
#[derive(Default)]
#[repr(align(64))]
struct Place(AtomicU64);

impl Sum {
    /// One more.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    #[inline]
    pub fn add(&self, number: u64) {
        self.0[place()].0.fetch_add(number, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.iter().map(|place| place.0.load(Ordering::Relaxed)).sum()
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sum({})", self.get())
    }
}

impl EncodeMetric for Sum {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        encoder.encode_counter::<NoLabelSet, _, u64>(&self.get(), None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_count_is_added_up() {
        let sum = Sum::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * PLACES {
                scope.spawn(|| (0..1_000).for_each(|_| sum.inc()));
            }
        });
        sum.add(5);
        assert_eq!(sum.get(), 32_005);
    }
}
