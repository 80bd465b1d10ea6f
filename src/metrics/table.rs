//! Metrics of one name that fixed labels tell apart: all are there from the start, and found by their number.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

/// A metric of each row. Clones are the same ones.
#[derive(Debug)]
pub struct Table<M>(Arc<Vec<Row<M>>>);

#[derive(Debug)]
struct Row<M> {
    labels: Vec<(&'static str, String)>,
    metric: M,
}

impl<M> Clone for Table<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> Table<M> {
    /// A row for each value of one label.
    pub fn by<V: Into<String>>(
        label: &'static str,
        values: impl IntoIterator<Item = V>,
        make: impl Fn() -> M,
    ) -> Self {
        let row = |value: V| Row { labels: vec![(label, value.into())], metric: make() };
        Self(Arc::new(values.into_iter().map(row).collect()))
    }

    /// A row for each pair of values of two labels: those of the second one behind each other.
    pub fn by_both(
        (label, values): (&'static str, &[&str]),
        (other, others): (&'static str, &[&str]),
        make: impl Fn() -> M,
    ) -> Self {
        let mut rows = Vec::new();
        for value in values {
            for second in others {
                let labels = vec![(label, (*value).to_owned()), (other, (*second).to_owned())];
                rows.push(Row { labels, metric: make() });
            }
        }
        Self(Arc::new(rows))
    }

    /// A row for each of these metrics, with its labels.
    pub fn of(rows: impl IntoIterator<Item = (Vec<(&'static str, String)>, M)>) -> Self {
        let rows = rows.into_iter().map(|(labels, metric)| Row { labels, metric });
        Self(Arc::new(rows.collect()))
    }

    /// The metric of the row of this number.
    #[inline]
    pub fn at(&self, number: usize) -> Option<&M> {
        self.0.get(number).map(|row| &row.metric)
    }

    /// The metrics, each with the value of its last label.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &M)> {
        self.0.iter().map(|row| (row.labels.last().map_or("", |(_, value)| value), &row.metric))
    }
}

impl<M: EncodeMetric> EncodeMetric for Table<M> {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        for Row { labels, metric } in &*self.0 {
            metric.encode(encoder.encode_family(&labels.as_slice())?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        self.0.first().map_or(MetricType::Unknown, |row| row.metric.metric_type())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A value that goes up and down. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Level(Arc<AtomicU64>);

impl Level {
    /// It is this from now on.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl EncodeMetric for Level {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        encoder.encode_gauge(&self.get())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// A counter that somebody else counts, and whose value is copied here.
#[derive(Debug, Clone, Default)]
pub struct Copied(Level);

impl Copied {
    /// It has come to this.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }
}

impl EncodeMetric for Copied {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        encoder
            .encode_counter::<prometheus_client::encoding::NoLabelSet, _, f64>(&self.0.get(), None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}
