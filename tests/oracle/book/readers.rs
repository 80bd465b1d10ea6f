//! The readers of a life.

use std::collections::BTreeMap;
use std::sync::Arc;

use fanfare::history::{History, Since};
use fanfare::model::{Pattern, Timestamp, Topic};

use super::{Book, Place};
use crate::chronicle::{Fault, Given, Verdict, id};
use crate::log::PATTERNS;
use crate::reading::{answer, newest, pages, patterns};

impl Book {
    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Exact => self.tally.exact += 1,
            Verdict::Told => self.tally.told += 1,
            Verdict::Needless => self.tally.needless += 1,
        }
        self.trace.note(format!("{verdict:?}"));
    }

    pub async fn read_after(
        &mut self,
        history: &Arc<dyn History>,
        line: usize,
    ) -> Result<(), Fault> {
        // Mostly one that was given lately.
        let among = self.dice.pick(&[4, 30, self.places.len()]).min(self.places.len());
        let place = self.places[self.places.len() - 1 - self.dice.below(among)];
        let texts = patterns(self.dice.pick(&PATTERNS));
        let (max_events, max_pages) = self.dice.pick(&[(1, 2), (3, 2), (2, 1_000), (100, 1_000)]);
        let Place { cursor, line: of, seen } = place;
        // As a client that resumes asks, or one that reads pages.
        let upto = seen.is_multiple_of(2).then(|| history.head());
        self.trace
            .step(format!("line {line}: {texts:?} after {seen} of line {of}, {max_events} each"));
        self.trace.note(cursor);
        let (given, end) =
            pages(&**history, &texts, Some(cursor), upto, max_events, max_pages).await?;
        let chronicle = &self.chronicles[line];
        let in_common = match line == of {
            true => usize::MAX,
            false => self.chronicles[of].in_common(chronicle),
        };
        // A reader that stopped early was promised what comes up to there.
        let end = end.unwrap_or(cursor);
        let reached = chronicle.until(end);
        let verdict = reached.judge(&given, &texts, seen, in_common)?;
        self.places.push(Place { cursor: end, line, seen: reached.all().len() });
        self.count(verdict);
        Ok(())
    }

    pub async fn read_since(
        &mut self,
        history: &Arc<dyn History>,
        line: usize,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let back = self.dice.pick(&[1_000, 30_000, 200_000, 4_000_000]);
        let since = Timestamp::from_millis(now.millis() - self.dice.below(back) as i64);
        let texts = patterns(self.dice.pick(&PATTERNS));
        self.trace.step(format!("line {line}: {texts:?} since {since}"));
        let moment = answer(|| history.place_before(Since::Time(since))).await?;
        let (mut given, _) = pages(&**history, &texts, Some(moment.place), None, 3, 1_000).await?;
        given.is_gap |= moment.gap;
        let chronicle = &self.chronicles[line];
        let verdict = chronicle.judge_since(&given, &texts, since, now)?;
        self.count(verdict);
        Ok(())
    }

    /// Current values, and what comes after each: nothing, or a gap.
    pub async fn read_current(
        &mut self,
        history: &Arc<dyn History>,
        line: usize,
    ) -> Result<(), Fault> {
        let texts = patterns(self.dice.pick(&PATTERNS));
        self.trace.step(format!("line {line}: current values of {texts:?}"));
        let before = newest_kept(&**history, &texts).await?;
        let values = newest(&**history, &texts, 2).await?;
        let of_kept = newest_kept(&**history, &texts).await?;
        let of_values: BTreeMap<_, _> =
            values.iter().map(|(topic, event)| (topic.clone(), id(event))).collect();
        // What is too old may go at any moment.
        if before == of_kept && of_values != of_kept {
            return Err(Fault(format!("the current values are {of_values:?}, not {of_kept:?}")));
        }
        // Each stays, however old it is, until a newer one is there.
        let values_before = self.values.get(&line).into_iter().flatten();
        for (topic, id) in values_before.filter(|(topic, _)| texts.iter().any(|t| t.matches(topic)))
        {
            if of_values.get(topic).is_none_or(|now| now < id) {
                return Err(Fault(format!("{id}, the current value of {topic}, is gone")));
            }
        }
        for (topic, event) in values {
            let texts = patterns(&[topic.as_str()]);
            let cursor = event.cursor.expect("it is kept");
            let (given, _) = pages(&**history, &texts, Some(cursor), None, 50, 1_000).await?;
            let chronicle = &self.chronicles[line];
            let seen = chronicle.upto(cursor);
            let verdict = chronicle.judge(&given, &texts, seen, usize::MAX)?;
            self.count(verdict);
        }
        Ok(())
    }

    pub async fn read_kept(
        &mut self,
        history: &Arc<dyn History>,
        line: usize,
    ) -> Result<(), Fault> {
        let texts = patterns(self.dice.pick(&PATTERNS));
        self.trace.step(format!("line {line}: all that is kept of {texts:?}"));
        let (first, next) = pages(&**history, &texts, None, None, 7, 1).await?;
        self.chronicles[line].judge_kept(&first, &texts)?;
        // What comes next may be told as a gap, for it is asked for by a place.
        let (rest, _) = pages(&**history, &texts, next, None, 7, 1_000).await?;
        let given = Given { events: [first.events, rest.events].concat(), is_gap: false };
        self.chronicles[line].judge_kept(&given, &texts)
    }
}

/// The newest of all kept events of each topic.
async fn newest_kept(
    history: &dyn History,
    texts: &Arc<[Pattern]>,
) -> Result<BTreeMap<Topic, usize>, Fault> {
    let (kept, _) = pages(history, texts, None, None, 50, 1_000).await?;
    Ok(kept.events.iter().map(|event| (event.topic.clone(), id(event))).collect())
}
