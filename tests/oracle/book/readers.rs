//! The readers of a life.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fanfare::config::{Rules, Storage};
use fanfare::history::{Append, History, Receipt, Since};
use fanfare::model::{Cursor, Event, Pattern, Timestamp, Topic};
use tokio::time::{Instant, sleep};

use super::{Book, Bookmark};
use crate::chronicle::{Fault, Given, Verdict, id};
use crate::log::PATTERNS;
use crate::reading::{PATIENCE, POLL, answer, changed, newest, pages, pages_back, patterns};
use crate::shelf::Shelf;
use crate::terms::{Fate, fates};

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
        let among = self.dice.pick(&[4, 30, self.bookmarks.len()]).min(self.bookmarks.len());
        let bookmark = self.bookmarks[self.bookmarks.len() - 1 - self.dice.below(among)];
        let texts = patterns(self.dice.pick(&PATTERNS));
        let (max_events, max_pages) = self.dice.pick(&[(1, 2), (3, 2), (2, 1_000), (100, 1_000)]);
        let Bookmark { cursor, line: of, seen } = bookmark;
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
        self.bookmarks.push(Bookmark { cursor: end, line, seen: reached.all().len() });
        self.count(verdict);
        Ok(())
    }

    /// What has changed of current values since a place.
    pub async fn read_changed(
        &mut self,
        history: &Arc<dyn History>,
        line: usize,
    ) -> Result<(), Fault> {
        let among = self.dice.pick(&[4, 30, self.bookmarks.len()]).min(self.bookmarks.len());
        let Bookmark { cursor, line: of, seen } =
            self.bookmarks[self.bookmarks.len() - 1 - self.dice.below(among)];
        let texts = patterns(self.dice.pick(&PATTERNS));
        let max_events = self.dice.pick(&[1, 3, 100]);
        self.trace.step(format!("line {line}: changes of {texts:?} after {seen} of line {of}"));
        self.trace.note(cursor);
        let given = changed(&**history, &texts, cursor, max_events).await?;
        let chronicle = &self.chronicles[line];
        let in_common = match line == of {
            true => usize::MAX,
            false => self.chronicles[of].in_common(chronicle),
        };
        let verdict = chronicle.judge_changed(&given, &texts, seen, in_common)?;
        self.count(verdict);
        Ok(())
    }

    /// All before a place, newest first.
    pub async fn read_back(
        &mut self,
        history: &Arc<dyn History>,
        line: usize,
    ) -> Result<(), Fault> {
        let texts = patterns(self.dice.pick(&PATTERNS));
        let max_events = self.dice.pick(&[1, 3, 100]);
        let entries = self.chronicles[line].all();
        let at = self.dice.below(entries.len());
        // A place of this log, or where nothing was stored yet the newest.
        let before = entries.get(at).map(|entry| entry.cursor).unwrap_or(history.head());
        self.trace.step(format!("line {line}: {texts:?} back from {at}"));
        self.trace.note(before);
        let given = pages_back(&**history, &texts, Some(before), max_events).await?;
        let verdict = self.chronicles[line].judge_back(&given, &texts, before)?;
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
        let moment = answer(|| history.position_before(Since::Time(since))).await?;
        let (mut given, _) =
            pages(&**history, &texts, Some(moment.position), None, 3, 1_000).await?;
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
    let newest: BTreeMap<_, _> =
        kept.events.iter().map(|event| (event.topic.clone(), event)).collect();
    // A topic whose newest event is a tombstone has no value.
    let values = newest.into_iter().filter(|(_, event)| !event.is_tombstone());
    Ok(values.map(|(topic, event)| (topic, id(event))).collect())
}

/// Somebody who keeps what a log tells has at hand what is kept of it.
pub async fn is_at_hand(history: &dyn History, shelf: impl Fn() -> Shelf) -> Result<(), Fault> {
    let (texts, give_up) = (patterns(&[">"]), Instant::now() + PATIENCE);
    loop {
        let (kept, _) = pages(history, &texts, None, None, 1_000, 1_000).await?;
        let shelf = shelf();
        if let Some(fault) = shelf.fault {
            return Err(Fault(fault));
        }
        let is_since =
            |event: &&Arc<Event>| event.cursor.is_some_and(|cursor| cursor.sequence > shelf.begin);
        let kept: Vec<_> = kept.events.iter().filter(is_since).map(|it| id(it)).collect();
        if shelf.ids() == kept {
            return Ok(());
        }
        if Instant::now() > give_up {
            let at_hand = shelf.ids();
            return Err(Fault(format!("{at_hand:?} is at hand, and {kept:?} is kept")));
        }
        sleep(POLL).await;
    }
}

/// What is to become of events that come together by what is kept but for themselves, which may be stored.
pub async fn fates_of(
    history: &dyn History,
    rules: &Rules,
    append: &Append,
    stored: Option<&Receipt>,
    last: &HashMap<Topic, Cursor>,
) -> Result<Result<Vec<Fate>, usize>, Fault> {
    let topics: Arc<[_]> = append.events.iter().map(|event| Pattern::from(&event.topic)).collect();
    let (mut kept, _) = pages(history, &topics, None, None, 1_000, 1_000).await?;
    let is_own = |event: &Event| {
        let mut own = stored.iter().flat_map(|receipt| &receipt.events);
        own.any(|own| own.cursor == event.cursor)
    };
    kept.events.retain(|event| !is_own(event));
    let is_kept = |topic: &Topic| rules.of(topic).storage != Storage::None;
    Ok(fates(&kept.events, &append.events, is_kept, last))
}
