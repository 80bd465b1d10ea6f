//! Whether the clock of Redis goes ahead of one that never steps.
//!
//! Pure state. Where it goes back, the log itself says so; a step ahead leaves dates that rise, so it shows
//! only beside another clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Timestamp;

/// By how much it goes ahead, between two looks, where that is said.
const NOTICED: Duration = Duration::from_secs(5);

/// How the clock of Redis has gone.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// What it said last, and before which moment that can't have been.
    seen: Option<(Instant, Timestamp)>,
}

impl Pace {
    /// Takes what the clock said between two moments; by how much it went ahead since the last time, at least.
    /// However late an answer is, or whoever stood still, the time that may have passed is no step.
    pub(super) fn look(
        &mut self,
        asked: Instant,
        answered: Instant,
        time: Timestamp,
    ) -> Option<Duration> {
        let (then, seen) = self.seen.replace((asked, time))?;
        let went = u64::try_from(time.millis().saturating_sub(seen.millis())).ok()?;
        let ahead = Duration::from_millis(went).saturating_sub(answered.duration_since(then));
        (ahead > NOTICED).then_some(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_ahead_is_said_once_and_a_late_answer_is_none() {
        let (begin, mut pace) = (Instant::now(), Pace::default());
        let mut look = |asked: u64, answered: u64, time: i64| {
            let at = |seconds| begin + Duration::from_secs(seconds);
            let time = Timestamp::from_millis(1_800_000_000_000 + time * 1_000);
            pace.look(at(asked), at(answered), time)
        };
        assert_eq!(look(0, 0, 0), None, "there is nothing to compare with");
        assert_eq!(look(1, 1, 601), Some(Duration::from_secs(600)));
        assert_eq!(look(2, 2, 602), None, "it was said");
        // Nobody looked for an hour, and then Redis, or this node, stood still before the answer and behind it.
        assert_eq!(look(3_600, 3_700, 4_200), None);
        assert_eq!(look(3_701, 3_701, 4_301), None);
        assert_eq!(look(3_702, 3_760, 4_302), None);
        assert_eq!(look(3_761, 3_761, 4_361), None);
        assert_eq!(look(3_762, 3_762, 361), None, "it went back");
        assert_eq!(look(3_763, 3_763, 368), Some(Duration::from_secs(6)));
    }
}
