//! How long things took, or how many came together: counted in fixed steps, by each thread in its own place.
//!
//! The steps are finer than what is shown to Prometheus, so that a quantile of one second can be told from the
//! counts alone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::sum::place;

/// How many threads count apart from each other.
const PLACES: usize = 8;

/// Where steps end, in microseconds: six in each power of ten, from 10 µs to 50 s.
const TIMES: &[u64] = &[
    10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1_000, 1_500, 2_000, 3_000, 5_000, 7_000,
    10_000, 15_000, 20_000, 30_000, 50_000, 70_000, 100_000, 150_000, 200_000, 300_000, 500_000,
    700_000, 1_000_000, 1_500_000, 2_000_000, 3_000_000, 5_000_000, 7_000_000, 10_000_000,
    15_000_000, 20_000_000, 30_000_000, 50_000_000,
];

/// Where steps end that are shown, in microseconds.
const TIMES_SHOWN: &[u64] = &[
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000, 50_000_000,
];

/// The same, for what is known by many labels.
const FEW_TIMES_SHOWN: &[u64] =
    &[200, 1_000, 5_000, 20_000, 100_000, 500_000, 2_000_000, 10_000_000];

/// Where steps of numbers end.
const NUMBERS: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// Observations, by steps. Clones are the same ones.
#[derive(Clone)]
pub struct Histogram(Arc<Steps>);

struct Steps {
    ends: &'static [u64],
    shown: &'static [u64],
    /// How many of its units a shown unit has.
    scale: f64,
    places: Box<[Place]>,
}

/// What one thread observed.
#[repr(align(64))]
struct Place {
    /// One more than there are ends: what is beyond the last.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// The observations up to a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    ends: &'static [u64],
    counts: Vec<u64>,
    sum: u64,
}

impl Histogram {
    /// Of times.
    pub fn of_times() -> Self {
        Self::of(TIMES, TIMES_SHOWN, 1e6)
    }

    /// Of times, shown in few steps.
    pub fn of_times_by_label() -> Self {
        Self::of(TIMES, FEW_TIMES_SHOWN, 1e6)
    }

    /// Of numbers.
    pub fn of_numbers() -> Self {
        Self::of(NUMBERS, NUMBERS, 1.0)
    }

    fn of(ends: &'static [u64], shown: &'static [u64], scale: f64) -> Self {
        let place = || Place {
            counts: (0..=ends.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        };
        let places = (0..PLACES).map(|_| place()).collect();
        Self(Arc::new(Steps { ends, shown, scale, places }))
    }

    /// Takes a time.
    #[inline]
    pub fn observe(&self, time: Duration) {
        self.note(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Takes a number.
    #[inline]
    pub fn note(&self, number: u64) {
        let Steps { ends, places, .. } = &*self.0;
        let step = ends.partition_point(|end| *end < number);
        let Place { counts, sum } = &places[place() % PLACES];
        counts[step].fetch_add(1, Ordering::Relaxed);
        sum.fetch_add(number, Ordering::Relaxed);
    }

    /// What was observed so far.
    pub fn observed(&self) -> Observed {
        let Steps { ends, places, .. } = &*self.0;
        let mut observed = Observed { ends, counts: vec![0; ends.len() + 1], sum: 0 };
        for Place { counts, sum } in places {
            for (all, count) in observed.counts.iter_mut().zip(counts) {
                *all += count.load(Ordering::Relaxed);
            }
            observed.sum = observed.sum.wrapping_add(sum.load(Ordering::Relaxed));
        }
        observed
    }
}

impl Observed {
    /// What was observed since an earlier moment.
    pub fn since(&self, before: &Self) -> Self {
        let counts = self.counts.iter().zip(&before.counts);
        let counts = counts.map(|(now, before)| now.saturating_sub(*before)).collect();
        Self { ends: self.ends, counts, sum: self.sum.wrapping_sub(before.sum) }
    }

    /// How many observations there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What so much of all, from 0 to 1, is not above: told from the step in which it lies; none where nothing was
    /// observed.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        let rank = (share * count as f64).max(1.0);
        let mut below = 0;
        for (step, in_step) in self.counts.iter().enumerate() {
            if *in_step > 0 && (below + in_step) as f64 >= rank {
                let begin = step.checked_sub(1).map_or(0, |before| self.ends[before]) as f64;
                let end = self.ends.get(step).map_or(begin, |end| *end as f64);
                let part = (rank - below as f64) / *in_step as f64;
                return Some(begin + (end - begin) * part.min(1.0));
            }
            below += in_step;
        }
        None
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.observed().fmt(f)
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let Steps { ends, shown, scale, .. } = &*self.0;
        let Observed { counts, sum, .. } = self.observed();
        let mut buckets: Vec<(f64, u64)> = Vec::with_capacity(shown.len() + 1);
        let mut steps = ends.iter().zip(&counts).peekable();
        for bound in *shown {
            let mut within = 0;
            while let Some((_, count)) = steps.next_if(|(end, _)| *end <= bound) {
                within += count;
            }
            buckets.push((*bound as f64 / scale, within));
        }
        let beyond = steps.map(|(_, count)| count).sum::<u64>();
        buckets.push((f64::INFINITY, beyond + counts.last().copied().unwrap_or(0)));
        let count = counts.iter().sum();
        encoder.encode_histogram::<NoLabelSet>(sum as f64 / scale, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_that_is_shown_ends_where_one_that_is_counted_does() {
        for shown in [TIMES_SHOWN, FEW_TIMES_SHOWN] {
            assert!(shown.iter().all(|end| TIMES.contains(end)));
            assert!(shown.is_sorted());
        }
        assert!(TIMES.is_sorted() && NUMBERS.is_sorted());
    }

    #[test]
    fn quantiles_are_told_of_what_came_between_two_moments() {
        let times = Histogram::of_times();
        (0..100).for_each(|_| times.observe(Duration::from_secs(7)));
        let before = times.observed();
        assert_eq!(times.observed().since(&before).quantile(0.5), None);
        (0..99).for_each(|_| times.observe(Duration::from_micros(400)));
        times.observe(Duration::from_millis(60));
        let since = times.observed().since(&before);
        assert_eq!(since.count(), 100);
        let p50 = since.quantile(0.5).unwrap();
        assert!((300.0..=500.0).contains(&p50), "{p50}");
        let p999 = since.quantile(0.999).unwrap();
        assert!((50_000.0..=70_000.0).contains(&p999), "{p999}");
        times.observe(Duration::from_secs(1_000));
        let beyond = times.observed().quantile(1.0).unwrap();
        assert!(beyond >= 50e6, "{beyond}");
    }
}
