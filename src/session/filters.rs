//! Which events of a pattern are wanted, where a subscription asks of each.

use crate::model::{Event, Pattern};
use crate::protocol::Filter;

/// The filters of some patterns. Pure state; mostly there are none.
#[derive(Debug, Default, Clone)]
pub struct Filters(Vec<(Pattern, Filter)>);

impl Filters {
    /// This filter of all of these.
    pub fn of(patterns: &[Pattern], filter: Option<Filter>) -> Self {
        let each = filter.into_iter().flat_map(|filter| {
            patterns.iter().map(move |pattern| (pattern.clone(), filter.clone()))
        });
        Self(each.collect())
    }

    /// Whether nothing is asked of any event.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts the filter of a pattern, or none, in the place of what was there.
    pub fn set(&mut self, pattern: &Pattern, filter: Option<Filter>) {
        self.remove(pattern);
        self.0.extend(filter.map(|filter| (pattern.clone(), filter)));
    }

    /// Takes away the filter of a pattern.
    pub fn remove(&mut self, pattern: &Pattern) {
        self.0.retain(|(other, _)| other != pattern);
    }

    /// The filter of a pattern.
    pub fn get(&self, pattern: &Pattern) -> Option<&Filter> {
        self.0.iter().find(|(other, _)| other == pattern).map(|(_, filter)| filter)
    }

    /// Whether an event that a pattern matches is wanted by it.
    pub fn wants(&self, pattern: &Pattern, event: &Event) -> bool {
        self.get(pattern).is_none_or(|filter| filter.wants(event))
    }
}
