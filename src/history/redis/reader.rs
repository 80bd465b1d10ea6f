//! Reading the log for a subscribe or a request: events, current values, topics.
//!
//! A few topics are read each from its own stream and joined by number; anything wider along the index
//! of all. Each page says whether something that it should have held was removed.

use std::sync::Arc;

use redis::{RedisError, RedisResult};

use super::super::{ListTopics, Moment, Newest, NewestPage, Page, Read, Since, TopicSummary};
use super::away::{Away, away};
use super::entry;
use super::link::{Link, Server};
use super::log_state::LogState;
use super::reads::{Found, IndexEntry, LOSSES_OF_A_PAGE, LOSSES_OF_VALUES, Reads};
use super::survey::Survey;
use crate::model::{Code, Event, Pattern, Problem, Topic};

/// How many topics are read from their own streams.
const FEW_TOPICS: usize = 64;

/// How many events are read at a time where each may be large.
pub(super) const VALUES: usize = 32;

/// How many entries or names one page looks at.
pub(super) const LOOKED_AT: usize = 1_024;

/// Where a log that nobody has written to is read from.
const NEVER: &str = "the log is not there";

/// What a place above the log's head means.
const BEHIND: &str = "the log is behind what this node has seen";

/// Reads the log of one server.
pub(super) struct Reader {
    pub(super) server: Arc<Server>,
}

/// What a page found, and the place up to which it is whole.
struct Part {
    events: Vec<Arc<Event>>,
    upto: u64,
    /// The number of the last event that is there and can't be read by this release.
    unread: Option<u64>,
}

/// Where a page is to begin and end.
struct Span<'a> {
    read: &'a Read,
    state: &'a LogState,
    after: u64,
    upto: u64,
}

impl From<Away> for Problem {
    fn from(away: Away) -> Self {
        Problem::new(Code::Unavailable, away.to_string())
    }
}

fn problem(error: &RedisError) -> Problem {
    away(error).into()
}

impl Reader {
    /// Reads over the link that stands now, and gives it up where that fails.
    pub(super) async fn with<T>(
        &self,
        read: impl AsyncFnOnce(Reads<'_>) -> RedisResult<Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let link: Arc<Link> = self.server.link()?;
        let answer = read(self.server.reads(&link)).await;
        self.server.judge(&link, answer).map_err(|error| problem(&error))?
    }

    /// Kept events, oldest first.
    pub(super) async fn page(&self, read: Read) -> Result<Page, Problem> {
        self.with(async |mut reads| {
            let Some(state) = reads.state().await? else { return Ok(Err(never())) };
            // Redis has come back with less, and no node has told it of that yet: what was lost shows
            // in a moment, and nothing would until then.
            if read.upto.is_some_and(|upto| upto.log == state.head.log && upto > state.head) {
                return Ok(Err(Away(BEHIND.to_owned()).into()));
            }
            let resolved = read.after.map(|after| state.resolve(after));
            let after = resolved.map_or(0, |resolved| resolved.after);
            let head = state.head.sequence;
            let upto = read.upto.map_or(head, |upto| state.resolve(upto).after.min(head));
            let span = Span { read: &read, state: &state, after, upto };
            let topics = few_topics(&mut reads, &read.patterns).await?;
            let part = match &topics {
                Some(topics) => span.by_topic(&mut reads, topics).await?,
                None => span.along(&mut reads).await?,
            };
            let lost = span.lost(&mut reads).await?;
            let is_lost = resolved.is_some_and(|resolved| resolved.is_lost);
            // The same on each page, so that one gap is told of it.
            let breach = is_lost.then_some(after.max(state.breach));
            let lost = lost.max(breach).filter(|_| read.after.is_some()).max(part.unread);
            Ok(Ok(Page {
                gap: lost.map(|lost| state.position_from(lost)),
                next: state.position_from(part.upto.max(after)),
                done: part.upto >= upto,
                events: part.events,
            }))
        })
        .await
    }

    /// Where what has happened since a time begins. Times rise along each stretch between steps back of the
    /// clock, so each is halved.
    pub(super) async fn position_before(&self, since: Since) -> Result<Moment, Problem> {
        self.with(async |mut reads| {
            let Some(state) = reads.state().await? else { return Ok(Err(never())) };
            let now = reads.clock().await?;
            let time = since.time(now);
            let head = state.head.sequence;
            let steps = state.steps.all().iter().map(|step| step.after.min(head));
            let (mut survey, mut begin) = (Survey::default(), 0);
            for end in steps.chain([head]) {
                survey = survey.and(reads.survey(time, now, begin, end).await?);
                begin = end;
            }
            // Nothing that is kept is older: whether something was, the beginning of the log says.
            let oldest = state.ended.first().map_or(state.start, |ended| ended.start());
            let is_lost = survey.place < oldest && state.breach >= oldest && oldest > 0;
            let position = state.position_from(survey.place.max(oldest));
            // What is kept shows its date; what was removed may have had any of its stretch.
            let is_hidden = survey.hides_some()
                || state.hides_some(position.sequence, time, now) && reads.has_removed().await?;
            Ok(Ok(Moment { position, gap: is_lost || is_hidden }))
        })
        .await
    }

    /// The newest event of each matching topic.
    pub(super) async fn newest(&self, newest: Newest) -> Result<NewestPage, Problem> {
        self.with(async |mut reads| {
            let Some(state) = reads.state().await? else { return Ok(Err(never())) };
            let Newest { patterns, after, max_events, max_bytes, .. } = &newest;
            let (max_events, max_bytes) = (*max_events, *max_bytes);
            let (mut topics, is_last) = candidates(&mut reads, patterns, after.as_ref()).await?;
            let mut next = topics.last().filter(|_| !is_last).cloned();
            topics.retain(|topic| patterns.iter().any(|pattern| pattern.matches(topic)));
            let mut events: Vec<Arc<Event>> = Vec::new();
            for few in topics.chunks(VALUES) {
                let found = reads.newest(few).await?;
                let found = few.iter().zip(found);
                let found = found.filter_map(|(topic, found)| event(&found?, topic, &state));
                events.extend(found.filter(|event| newest.wants(event)));
                let bytes: usize = events.iter().map(|event| event.cost()).sum();
                if (bytes >= max_bytes || events.len() >= max_events) && few.last() != topics.last()
                {
                    next = few.last().cloned();
                    break;
                }
            }
            if events.len() > max_events {
                events.truncate(max_events);
                next = events.last().map(|event| event.topic.clone());
            }
            let gap = match newest.since.map(|since| state.resolve(since)) {
                Some(resolved) => {
                    resolved.is_lost
                        || has_lost_newest(&mut reads, patterns, resolved.after).await?
                }
                None => false,
            };
            Ok(Ok(NewestPage { events, gap, next }))
        })
        .await
    }

    /// Topics with kept events.
    pub(super) async fn topics(&self, list: ListTopics) -> Result<Vec<TopicSummary>, Problem> {
        self.with(async |mut reads| {
            let Some(state) = reads.state().await? else { return Ok(Err(never())) };
            let ListTopics { pattern, mut after, limit } = list;
            let mut topics = Vec::new();
            while topics.len() < limit {
                let names =
                    reads.names(pattern.literal_prefix(), after.as_ref(), LOOKED_AT).await?;
                let Some(last) = names.last().cloned() else { break };
                topics.extend(names.into_iter().filter(|topic| pattern.matches(topic)));
                after = Some(last);
            }
            topics.truncate(limit);
            let mut summaries = Vec::with_capacity(topics.len());
            for few in topics.chunks(VALUES) {
                let sizes = few.iter().zip(reads.sizes(few).await?);
                summaries.extend(sizes.map(|(topic, (retained, found))| {
                    let latest = found.as_ref().and_then(|found| event(found, topic, &state));
                    let summary = TopicSummary::new(topic.clone(), retained, latest);
                    let latest_time = found.map(|found| found.time);
                    TopicSummary { latest_time, latest: None, ..summary }
                }));
            }
            summaries.retain(|summary| summary.retained > 0);
            Ok(Ok(summaries))
        })
        .await
    }

    /// What is kept of one topic.
    pub(super) async fn topic(&self, topic: Topic) -> Result<TopicSummary, Problem> {
        self.with(async |mut reads| {
            let Some(state) = reads.state().await? else { return Ok(Err(never())) };
            let one = [topic];
            let retained = reads.lengths(&one).await?.first().copied().unwrap_or(0);
            let found = reads.newest(&one).await?.into_iter().next().flatten();
            let [topic] = one;
            let latest = found.and_then(|found| event(&found, &topic, &state));
            Ok(Ok(TopicSummary::new(topic, retained, latest)))
        })
        .await
    }
}

pub(super) fn never() -> Problem {
    Problem::new(Code::Unavailable, NEVER)
}

pub(super) fn event(found: &Found, topic: &Topic, state: &LogState) -> Option<Arc<Event>> {
    entry::decode(&found.entry, topic, found.time, Some(state.at(found.sequence)))
}

/// What every topic begins with that one of the patterns matches.
fn shared_prefix(patterns: &[Pattern]) -> &str {
    let first = patterns.first().map_or("", Pattern::literal_prefix);
    let shared = |prefix: &str, pattern: &Pattern| {
        let other = pattern.literal_prefix();
        prefix.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count()
    };
    // Topics are ASCII, so any length is a boundary.
    let length = patterns.iter().fold(first.len(), |length, pattern| {
        shared(first.get(..length).unwrap_or_default(), pattern)
    });
    first.get(..length).unwrap_or_default()
}

/// The topics that match, where they are few.
pub(super) async fn few_topics(
    reads: &mut Reads<'_>,
    patterns: &[Pattern],
) -> RedisResult<Option<Vec<Topic>>> {
    let exact: Option<Vec<_>> = patterns.iter().map(Pattern::as_topic).collect();
    let mut topics = match exact {
        Some(topics) => topics,
        None => {
            let names = reads.names(shared_prefix(patterns), None, LOOKED_AT).await?;
            if names.len() == LOOKED_AT {
                return Ok(None);
            }
            let matches = |topic: &Topic| patterns.iter().any(|pattern| pattern.matches(topic));
            names.into_iter().filter(matches).collect()
        }
    };
    topics.sort_unstable();
    topics.dedup();
    Ok((topics.len() <= FEW_TOPICS).then_some(topics))
}

impl Span<'_> {
    fn matches(&self, topic: &Topic) -> bool {
        self.read.patterns.iter().any(|pattern| pattern.matches(topic))
    }

    async fn by_topic(&self, reads: &mut Reads<'_>, topics: &[Topic]) -> RedisResult<Part> {
        let count = (self.read.max_events / topics.len().max(1)).clamp(16, LOOKED_AT);
        let ranges = match self.after < self.upto {
            true => reads.ranges(topics, self.after, self.upto, count).await?,
            false => Vec::new(),
        };
        let full = ranges.iter().filter(|range| range.len() == count);
        let ends = full.filter_map(|range| range.last()).map(|found| found.sequence);
        let end = ends.min().unwrap_or(self.upto);
        let all = topics.iter().zip(&ranges);
        let mut all: Vec<_> =
            all.flat_map(|(topic, range)| range.iter().map(move |found| (topic, found))).collect();
        all.retain(|(_, found)| found.sequence <= end);
        all.sort_unstable_by_key(|(_, found)| found.sequence);
        let all = all.into_iter().map(|(topic, found)| (found.sequence, topic, Some(found)));
        Ok(self.fit(all, end))
    }

    async fn along(&self, reads: &mut Reads<'_>) -> RedisResult<Part> {
        let (mut index, mut end, mut looked_at): (Vec<IndexEntry>, _, _) =
            (Vec::new(), self.after, 0);
        // As many as are wanted where all match, and more each time where few do.
        let mut count = self.read.max_events.clamp(LOOKED_AT / 16, LOOKED_AT);
        while end < self.upto && looked_at < LOOKED_AT && index.len() < self.read.max_events {
            let step = reads.index_page(end, self.upto, count).await?;
            end = match step.last() {
                Some(last) if step.len() == count => last.sequence,
                Some(_) | None => self.upto,
            };
            looked_at += step.len();
            count = LOOKED_AT.min(count * 2);
            index.extend(step.into_iter().filter(|entry| self.matches(&entry.topic)));
        }
        if index.len() > self.read.max_events {
            index.truncate(self.read.max_events);
            end = index.last().map_or(end, |entry| entry.sequence);
        }
        let found = reads.events(&index).await?;
        let all = index.iter().zip(&found);
        let all = all.map(|(entry, found)| (entry.sequence, &entry.topic, found.as_ref()));
        Ok(self.fit(all, end))
    }

    /// As many events as the page may hold; those that are gone are left out, or can't be read.
    fn fit<'f>(
        &self,
        found: impl Iterator<Item = (u64, &'f Topic, Option<&'f Found>)>,
        end: u64,
    ) -> Part {
        let (mut events, mut bytes, mut unread) = (Vec::new(), 0, None);
        let mut found = found.peekable();
        while let Some((sequence, topic, found_there)) = found.next() {
            let event = found_there.and_then(|found| event(found, topic, self.state));
            if found_there.is_some() && event.is_none() {
                unread = Some(sequence);
            }
            bytes += event.as_ref().map_or(0, |event| event.cost());
            events.extend(event);
            let is_full = events.len() >= self.read.max_events || bytes >= self.read.max_bytes;
            if is_full && found.peek().is_some() {
                return Part { events, upto: sequence, unread };
            }
        }
        Part { events, upto: end.max(self.after), unread }
    }

    /// The number of the newest event after the span's beginning that matches and was, or may have
    /// been, removed.
    async fn lost(&self, reads: &mut Reads<'_>) -> RedisResult<Option<u64>> {
        if self.read.after.is_none() {
            return Ok(None);
        }
        Ok(removed(reads, &self.read.patterns, self.after).await?.1)
    }
}

/// Topics after one by name of which a page of current values looks at the newest event, some of them unmatched; and whether
/// these are the last ones.
async fn candidates(
    reads: &mut Reads<'_>,
    patterns: &[Pattern],
    after: Option<&Topic>,
) -> RedisResult<(Vec<Topic>, bool)> {
    let exact: Option<Vec<_>> = patterns.iter().map(Pattern::as_topic).collect();
    let Some(mut topics) = exact else {
        // However few are asked for: of most of these topics there may be no value.
        let names = reads.names(shared_prefix(patterns), after, LOOKED_AT).await?;
        let is_last = names.len() < LOOKED_AT;
        return Ok((names, is_last));
    };
    topics.sort_unstable();
    topics.dedup();
    topics.retain(|topic| after.is_none_or(|after| topic > after));
    let is_last = topics.len() <= LOOKED_AT;
    topics.truncate(LOOKED_AT);
    Ok((topics, is_last))
}

/// Whether an event after a number that a pattern matches was, or may have been, removed, and nothing newer of its topic
/// is kept.
async fn has_lost_newest(
    reads: &mut Reads<'_>,
    patterns: &[Pattern],
    after: u64,
) -> RedisResult<bool> {
    let exact: Option<Vec<_>> = patterns.iter().map(Pattern::as_topic).collect();
    let lost = match exact {
        Some(topics) => {
            let (state, removed) = reads.last_removed(&topics).await?;
            let floor = state.map_or(0, |state| state.floor);
            let lost = topics.into_iter().zip(removed);
            let lost = lost.filter(|(_, removed)| removed.unwrap_or(floor) > after);
            lost.map(|(topic, _)| topic).collect()
        }
        None => {
            let losses = reads.losses(after, LOSSES_OF_VALUES).await?;
            if losses.unknown() > after {
                return Ok(true);
            }
            let topics = losses.topics.into_iter().map(|(topic, _)| topic);
            topics.filter(|topic| patterns.iter().any(|one| one.matches(topic))).collect::<Vec<_>>()
        }
    };
    // What is removed is always older than what stays.
    Ok(reads.are_kept(&lost).await?.contains(&false))
}

/// How the log stands, and the number of the newest event after one that a pattern matches and that was,
/// or may have been, removed.
pub(super) async fn removed(
    reads: &mut Reads<'_>,
    patterns: &[Pattern],
    after: u64,
) -> RedisResult<(Option<LogState>, Option<u64>)> {
    let exact: Option<Vec<_>> = patterns.iter().map(Pattern::as_topic).collect();
    let (state, newest) = match exact {
        Some(topics) => {
            let (state, removed) = reads.last_removed(&topics).await?;
            let floor = state.as_ref().map_or(0, |state| state.floor);
            (state, removed.into_iter().map(|removed| removed.unwrap_or(floor)).max())
        }
        None => {
            let losses = reads.losses(after, LOSSES_OF_A_PAGE).await?;
            let matches = |topic| patterns.iter().any(|pattern| pattern.matches(topic));
            let matching = losses.topics.iter().filter(|(topic, _)| matches(topic));
            let newest = matching.map(|(_, sequence)| *sequence).max();
            let assumed = losses.topics.last().filter(|_| losses.is_cut).map(|(_, last)| *last);
            let floor = losses.state.as_ref().map(|state| state.floor);
            (losses.state, newest.max(assumed).max(floor))
        }
    };
    Ok((state, newest.filter(|newest| *newest > after)))
}
