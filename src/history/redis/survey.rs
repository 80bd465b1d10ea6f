//! What a log knows of a moment, stretch by stretch.

/// What a log, or a part of it, knows of a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// The number of the newest event that is older; 0 where none is.
    pub(super) place: u64,
    /// The lowest number at which an event is dated between the moment and now.
    pub(super) dated: Option<u64>,
}

impl Survey {
    /// What two parts of one log know together.
    pub(super) fn and(self, other: Self) -> Self {
        let dated = [self.dated, other.dated].into_iter().flatten().min();
        Self { place: self.place.max(other.place), dated }
    }

    /// Whether somebody who begins behind the place misses events that are dated since the moment.
    pub(super) fn hides_some(self) -> bool {
        self.dated.is_some_and(|dated| dated < self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dated_since_the_moment_before_its_place_is_hidden() {
        let of = |place, dated| Survey { place, dated };
        // The clock was ahead, and went back behind number 6.
        let ahead = of(3, Some(4));
        assert!(!ahead.hides_some());
        assert!(ahead.and(of(8, Some(9))).hides_some());
        assert!(ahead.and(of(0, Some(7))) == of(3, Some(4)));
        assert!(!of(3, None).and(of(8, Some(9))).hides_some());
    }
}
