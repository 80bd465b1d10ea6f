//! The tree of topics: what stands below one, a segment each, with how much there is below that.
//!
//! Topics are listed by name, and so all below a segment stand together: they are counted up to a bound and passed over
//! with one step, so that a page costs by what it shows. A topic itself may stand apart from what is below it
//! (`a`, `a-b`, `a.b`), and then both are looked for.

use std::collections::{HashSet, VecDeque};

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::read::is_zero;
use crate::auth::{Access, Auth};
use crate::broker::BrokerHandle;
use crate::history::{ListTopics, TopicSummary};
use crate::http::{PageSize, Query};
use crate::model::{Pattern, Problem, Timestamp, Topic};

/// How many topics are counted below one segment; of more it is said that there are more.
const COUNTED: usize = 10_000;

/// How many topics are looked at for one page; then it ends early.
const LOOKED_AT: usize = 100_000;

/// How often the history is asked for one page; then it ends early.
const QUESTIONS: usize = 2_000;

/// How many topics are read at a time.
const AT_A_TIME: usize = 1_000;

/// How many topics that somebody subscribes to by name are looked at for one page; then it ends early.
const NAMED: usize = 10_000;

/// A segment, and what stands below it.
#[derive(Serialize)]
struct Branch {
    segment: String,
    /// It, with all that stands before it.
    topic: String,
    /// Whether that is a topic itself.
    is_topic: bool,
    /// How many topics there are, it and all below it.
    topics: usize,
    /// How many of their events are kept.
    retained: usize,
    /// When the newest of them came.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    latest_time: Option<Timestamp>,
    /// There is more than was counted.
    #[serde(skip_serializing_if = "is_false")]
    more: bool,
}

#[derive(Serialize)]
struct TreeBody {
    branches: Vec<Branch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    silent_nodes: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

fn as_text<S: serde::Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

/// `GET /v1/topic-tree`: the segments below a topic, of those that the caller may receive something of.
pub async fn read_tree(
    access: Access,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    auth: web::Data<Auth>,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.query_string(), &["under", "find", "limit", "after"])?;
    let under = query.one("under")?.map(Topic::parse).transpose()?;
    let find = query.one_filled("find")?.unwrap_or_default().to_ascii_lowercase();
    let limit = PageSize::of(&query)?.items();
    let after = query.topic("after")?;
    let prefix = under.map_or_else(String::new, |topic| format!("{topic}."));
    // Below what is as long as may be, nothing can be.
    let Ok(pattern) = Pattern::parse(&format!("{prefix}>")) else {
        let nothing = TreeBody { branches: Vec::new(), next: None, silent_nodes: 0 };
        return Ok(HttpResponse::Ok().json(nothing));
    };
    access.require_some_of(&pattern)?;
    let mut walk = Walk::begin(&broker, &auth, access, pattern, after).await?;
    let mut branches = Vec::new();
    while branches.len() < limit
        && let Some(first) = walk.peek().await?
    {
        let rest = &first.topic.as_str()[prefix.len()..];
        let segment = rest.split('.').next().unwrap_or(rest).to_owned();
        let stem = Topic::from_stored(&format!("{prefix}{segment}"))?;
        let is_wanted = segment.to_ascii_lowercase().contains(&find);
        branches.extend(walk.branch(segment, &stem, is_wanted).await?);
    }
    walk.end(branches)
}

/// A walk along the topics that match, by name.
struct Walk<'a> {
    broker: &'a BrokerHandle,
    auth: &'a Auth,
    access: Access,
    pattern: Pattern,
    /// The next ones.
    ahead: VecDeque<TopicSummary>,
    /// After which there are others than those.
    after: Option<Topic>,
    /// Whether there are none.
    is_at_end: bool,
    /// What somebody subscribes to by name.
    named: Vec<Topic>,
    /// The page ends here, for it is not known what is named behind it.
    horizon: Option<Topic>,
    /// Topics whose branch is told, though what is below them comes later.
    told: HashSet<Topic>,
    /// After which the next page begins; none before the first step.
    place: Option<Topic>,
    questions: usize,
    looked_at: usize,
    silent: usize,
}

impl<'a> Walk<'a> {
    async fn begin(
        broker: &'a BrokerHandle,
        auth: &'a Auth,
        access: Access,
        pattern: Pattern,
        after: Option<Topic>,
    ) -> Result<Self, Problem> {
        let list = ListTopics { pattern: pattern.clone(), after: after.clone(), limit: NAMED };
        let named = broker.subscribed_topics(list).await?;
        let (silent, named) = (named.silent, named.all);
        let horizon = named.last().filter(|_| named.len() >= NAMED).cloned();
        Ok(Self {
            broker,
            auth,
            access,
            pattern,
            ahead: VecDeque::new(),
            after,
            is_at_end: false,
            named,
            horizon,
            told: HashSet::new(),
            place: None,
            questions: 0,
            looked_at: 0,
            silent,
        })
    }

    /// Whether the page has to end.
    fn is_over(&self) -> bool {
        self.questions >= QUESTIONS || self.looked_at >= LOOKED_AT
    }

    /// The topics after one that match and that the caller may receive, and whether there are more behind them.
    async fn read(
        &mut self,
        pattern: &Pattern,
        after: Option<&Topic>,
    ) -> Result<(Vec<TopicSummary>, Option<Topic>), Problem> {
        let list = ListTopics { pattern: pattern.clone(), after: after.cloned(), limit: AT_A_TIME };
        let mut found = self.broker.history().topics(list).await?;
        self.questions += 1;
        self.looked_at += found.len();
        let last = found.last().filter(|_| found.len() >= AT_A_TIME);
        let last = last.map(|summary| summary.topic.clone());
        found.retain(|summary| !summary.is_removed);
        // Of those that are named, as many as come before the end of what was read.
        let is_here = |topic: &&Topic| {
            after.is_none_or(|after| *topic > after)
                && last.as_ref().is_none_or(|last| *topic <= last)
                && pattern.matches(topic)
        };
        let named = self.named.iter().filter(is_here).cloned().map(TopicSummary::empty);
        found.extend(named);
        found.sort_by(|a, b| a.topic.cmp(&b.topic).then(b.retained.cmp(&a.retained)));
        found.dedup_by(|b, a| a.topic == b.topic);
        self.access = self.auth.still(&self.access)?;
        self.access.require_some_of(pattern)?;
        found.retain(|summary| self.access.may_subscribe(&summary.topic));
        Ok((found, last))
    }

    /// The next topic, unless there is none, or the page has to end.
    async fn peek(&mut self) -> Result<Option<TopicSummary>, Problem> {
        while self.ahead.is_empty() && !self.is_at_end && !self.is_over() {
            let (pattern, after) = (self.pattern.clone(), self.after.clone());
            let (found, last) = self.read(&pattern, after.as_ref()).await?;
            self.ahead = found.into();
            self.is_at_end = last.is_none();
            self.after = last.or(after);
        }
        let next = self.ahead.front().filter(|_| !self.is_over());
        let is_known = |topic: &Topic| self.horizon.as_ref().is_none_or(|end| topic <= end);
        Ok(next.filter(|summary| is_known(&summary.topic)).cloned())
    }

    /// The branch of the next topic, if it is to be told, and the step over it.
    async fn branch(
        &mut self,
        segment: String,
        stem: &Topic,
        is_wanted: bool,
    ) -> Result<Option<Branch>, Problem> {
        let is_own = self.ahead.front().is_some_and(|next| next.topic == *stem);
        let own = if is_own { self.ahead.pop_front() } else { None };
        let is_told = match own {
            Some(_) => false,
            None => self.told.contains(stem) || self.is_topic(stem).await?,
        };
        let mut branch = Branch::of(segment, stem, own.as_ref());
        if is_wanted && !is_told {
            self.count(stem, &mut branch).await?;
        }
        match own {
            Some(_) => {
                self.told.insert(stem.clone());
                self.place = Some(stem.clone());
            }
            None => self.step_over(&end_of(stem)?),
        }
        Ok((is_wanted && !is_told).then_some(branch))
    }

    /// Whether a topic is shown by itself, so that its branch was told where it stands.
    async fn is_topic(&mut self, topic: &Topic) -> Result<bool, Problem> {
        if !self.access.may_subscribe(topic) {
            return Ok(false);
        }
        if self.named.binary_search(topic).is_ok() {
            return Ok(true);
        }
        self.questions += 1;
        let summary = self.broker.history().topic(topic.clone()).await?;
        Ok(summary.retained > 0 && !summary.is_removed)
    }

    /// Adds what is below a topic to its branch.
    async fn count(&mut self, stem: &Topic, branch: &mut Branch) -> Result<(), Problem> {
        let end = end_of(stem)?;
        let below = format!("{stem}.");
        let mut counted = 0;
        for summary in &self.ahead {
            if summary.topic > end {
                return Ok(());
            }
            if summary.topic.as_str().starts_with(&below) {
                branch.add(summary);
                counted += 1;
            }
        }
        // What is ahead ends before the branch does.
        let mut after = self.after.clone();
        let mut is_at_end = self.is_at_end;
        let Ok(pattern) = Pattern::parse(&format!("{below}>")) else { return Ok(()) };
        while !is_at_end && counted <= COUNTED && !self.is_over() {
            let (found, last) = self.read(&pattern, after.as_ref()).await?;
            found.iter().for_each(|summary| branch.add(summary));
            counted += found.len();
            is_at_end = last.is_none();
            after = last.or(after);
        }
        branch.more = !is_at_end;
        Ok(())
    }

    /// Goes on behind a place.
    fn step_over(&mut self, end: &Topic) {
        while self.ahead.front().is_some_and(|next| next.topic <= *end) {
            self.ahead.pop_front();
        }
        if self.ahead.is_empty() && self.after.as_ref().is_some_and(|after| after < end) {
            self.after = Some(end.clone());
        }
        self.place = Some(end.clone());
    }

    fn end(self, branches: Vec<Branch>) -> Result<HttpResponse, Problem> {
        let has_more = !self.ahead.is_empty() || !self.is_at_end || self.horizon.is_some();
        let next = match self.place.filter(|_| has_more) {
            // A place that the caller may know of.
            Some(place) => Some(place.to_string()),
            None if self.is_at_end || self.horizon.is_some() => None,
            None => {
                return Err(self.access.refusal(format!(
                    "too many topics of {} come before the first that may be shown; ask for a narrower pattern",
                    self.pattern
                )));
            }
        };
        Ok(HttpResponse::Ok().json(TreeBody { branches, next, silent_nodes: self.silent }))
    }
}

impl Branch {
    /// The branch of a topic that is shown, or of what is below it alone.
    fn of(segment: String, stem: &Topic, own: Option<&TopicSummary>) -> Self {
        let mut branch = Self {
            segment,
            topic: stem.to_string(),
            is_topic: own.is_some(),
            topics: 0,
            retained: 0,
            latest_time: None,
            more: false,
        };
        own.into_iter().for_each(|summary| branch.add(summary));
        branch
    }

    fn add(&mut self, summary: &TopicSummary) {
        self.topics += 1;
        self.retained += summary.retained;
        self.latest_time = self.latest_time.max(summary.latest_time);
    }
}

/// The last topic that there could be below one: none is longer, and no byte comes after `~`.
fn end_of(stem: &Topic) -> Result<Topic, Problem> {
    let room = Topic::MAX_BYTES.saturating_sub(stem.as_str().len() + 1);
    if room == 0 {
        return Ok(stem.clone());
    }
    Ok(Topic::from_stored(&format!("{stem}.{}", "~".repeat(room)))?)
}
