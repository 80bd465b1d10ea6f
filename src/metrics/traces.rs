//! What became of traces and their spans.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::table::Table;

const TRACES: [&str; 2] = ["recorded", "limited"];

const SPANS: [&str; 4] = ["exported", "dropped", "refused", "lost"];

/// What became of a span that was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanFate {
    /// The collector took it.
    Exported,
    /// Too many waited for the collector.
    Dropped,
    /// The collector does not want it.
    Refused,
    /// The collector could not be reached, or was not ready for it, again and again.
    Lost,
}

/// Those numbers. Clones are the same ones.
#[derive(Debug, Clone)]
pub struct TraceNumbers {
    traces: Table<Counter>,
    spans: Table<Counter>,
}

impl Default for TraceNumbers {
    fn default() -> Self {
        Self {
            traces: Table::by("outcome", TRACES, Counter::default),
            spans: Table::by("outcome", SPANS, Counter::default),
        }
    }
}

impl TraceNumbers {
    pub(super) fn register(&self, to: &mut Registry) {
        let help = "Publishes that were to be traced, by whether they were: not where more came than may a second";
        to.register("traces", help, self.traces.clone());
        let help = "Spans of traces, by what became of them";
        to.register("spans", help, self.spans.clone());
    }

    /// A publish was to be traced: it is, or too many came before it.
    pub fn begun(&self, is_recorded: bool) {
        if let Some(traces) = self.traces.at(usize::from(!is_recorded)) {
            traces.inc();
        }
    }

    /// So many spans ended so.
    pub fn ended(&self, fate: SpanFate, number: u64) {
        if let Some(spans) = self.spans.at(fate as usize) {
            spans.inc_by(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_found_at_its_number() {
        assert_eq!(SPANS[SpanFate::Lost as usize], "lost");
        let numbers = TraceNumbers::default();
        numbers.begun(false);
        numbers.ended(SpanFate::Dropped, 3);
        let counts =
            |table: &Table<Counter>| table.rows().map(|(_, sum)| sum.get()).collect::<Vec<_>>();
        assert_eq!(counts(&numbers.traces), [0, 1]);
        assert_eq!(counts(&numbers.spans), [0, 3, 0, 0]);
    }
}
