//! What is asked of all nodes: how many sessions, whose, which; that some shall end; and what was left
//! for a ticket.
//!
//! A question goes to every worker of this node, and through the [`Relay`] to all other nodes, whose
//! workers answer it alike. Nothing is kept for that anywhere, so nothing can be out of date. A node that is
//! there and does not answer in time is counted, for what it would have said is missing.

use std::future::ready;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join};
use serde::{Deserialize, Serialize};

use super::fanout::Asked;
use super::tickets::Tickets;
use super::{BrokerHandle, Range, Ranking, SessionInfo, SessionView};
use crate::history::{ListTopics, TopicSummary};
use crate::model::{Code, Event, Pattern, Present, Problem, Revocation, Topic};

/// The way to the other nodes.
pub trait Relay: Send + Sync {
    /// Asks every other node.
    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Answers, Problem>>;

    /// Whether it is this node's turn to do what goes by this name, where one node of those that would do it does. The
    /// turn is to be asked for again every second; for a moment two may think that they have it.
    fn has_turn(&self, name: &str) -> BoxFuture<'_, bool>;

    /// Tells the other nodes what this one says of itself, as far as they are heard.
    fn say(&self, event: Event) -> BoxFuture<'_, ()>;

    /// What the other nodes that are there are called.
    fn others(&self) -> Vec<String>;
}

/// The relay of a broker on its own.
#[derive(Debug, Clone, Copy)]
pub struct NoRelay;

impl Relay for NoRelay {
    fn ask(&self, _: Question) -> BoxFuture<'_, Result<Answers, Problem>> {
        Box::pin(ready(Ok(Answers::default())))
    }

    fn has_turn(&self, _: &str) -> BoxFuture<'_, bool> {
        Box::pin(ready(true))
    }

    fn say(&self, _: Event) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    fn others(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What one node asks all.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Question {
    /// How many sessions are subscribed to each of these, by name or by pattern?
    Count(Vec<Topic>),
    /// Which topics are subscribed to by name?
    Topics(ListTopics),
    /// Who would receive an event of this topic?
    Members(Topic, Range),
    /// How many sessions of each of these users are among them?
    CountUsers(Topic, Vec<String>),
    /// Who is in the topics that match by name, after the one given, and at most so many?
    Present(Vec<Pattern>, Option<(Topic, String)>, usize),
    /// What is the newest change that you told of these topics, after the one given, and of at most so many?
    Rooms(Vec<Pattern>, Option<Topic>, usize),
    /// Which sessions are there, of one user where one is given?
    Sessions(Option<String>, Range),
    /// The same, in another order. (Nodes of earlier releases don't know it, and are silent.)
    RankedSessions(Option<String>, Ranking),
    /// End the session with this id.
    EndSession(String),
    /// End every session of this user.
    EndUser(String),
    /// End every session with a token that is accepted no longer.
    EndRevoked(Revocation),
    /// Give me what was left for this ticket.
    Redeem(String),
}

/// What one node answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// So many sessions, topic by topic.
    Counts(Vec<usize>),
    /// These topics.
    Topics(Vec<Topic>),
    /// These members.
    Members(Vec<SessionInfo>),
    /// These are in the topics.
    Present(Vec<Attending<Present>>),
    /// These changes were told.
    Rooms(Vec<Attending<RoomVersion>>),
    /// These sessions.
    Sessions(Vec<SessionView>),
    /// So many sessions were ended.
    Ended(usize),
    /// This was left for the ticket.
    Redeemed(Option<String>),
}

/// What one node says of who is in its topics.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attending<T> {
    /// What it is called.
    pub node: String,
    /// How many changes it has told.
    pub changes: u64,
    /// What was asked.
    pub found: Vec<T>,
    /// Whether there is more.
    pub is_cut: bool,
}

impl<T> Default for Attending<T> {
    fn default() -> Self {
        Self { node: String::new(), changes: 0, found: Vec::new(), is_cut: false }
    }
}

/// How often who is in a topic has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomVersion {
    /// The topic, known by the one where it is told of it.
    pub room: Topic,
    /// The number of the newest change.
    pub change: u64,
}

/// What other nodes answer.
#[derive(Debug, Default)]
pub struct Answers {
    /// An answer of each node that gave one.
    pub answers: Vec<Answer>,
    /// How many nodes are there and gave none.
    pub silent: usize,
}

/// What all nodes together answer.
#[derive(Debug)]
pub struct Gathered<T> {
    /// All that was answered.
    pub all: T,
    /// How many nodes are there and did not answer.
    pub silent: usize,
}

impl<T> Gathered<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Gathered<U> {
        Gathered { all: change(self.all), silent: self.silent }
    }

    /// All of it, where nobody was silent.
    fn whole(self) -> Result<T, Problem> {
        match self.silent {
            0 => Ok(self.all),
            silent => {
                let detail = format!("{silent} nodes did not answer in time; try again");
                Err(Problem::new(Code::Unavailable, detail))
            }
        }
    }
}

impl Question {
    /// How many numbers it asks for.
    fn counts(&self) -> usize {
        match self {
            Question::Count(topics) => topics.len(),
            Question::CountUsers(_, users) => users.len(),
            _ => 0,
        }
    }

    /// What several answers to it say together.
    fn sum(&self, answers: Vec<Answer>) -> Answer {
        let answers = answers.into_iter();
        match self {
            Question::Count(_) | Question::CountUsers(..) => {
                let mut sum = vec![0; self.counts()];
                for answer in answers {
                    if let Answer::Counts(counts) = answer {
                        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
                    }
                }
                Answer::Counts(sum)
            }
            Question::Topics(_) => Answer::Topics(answers.flat_map(Answer::into_topics).collect()),
            Question::Members(_, range) => {
                let members = answers.flat_map(Answer::into_members).collect();
                Answer::Members(range.of(members, |info| &info.id))
            }
            Question::Present(..) => {
                Answer::Present(answers.flat_map(Answer::into_present).collect())
            }
            Question::Rooms(..) => Answer::Rooms(answers.flat_map(Answer::into_rooms).collect()),
            Question::Sessions(_, range) => {
                let sessions = answers.flat_map(Answer::into_sessions).collect();
                Answer::Sessions(range.of(sessions, |view| &view.info.id))
            }
            Question::RankedSessions(_, ranking) => {
                Answer::Sessions(ranking.of(answers.flat_map(Answer::into_sessions).collect()))
            }
            Question::EndSession(_) | Question::EndUser(_) | Question::EndRevoked(_) => {
                Answer::Ended(answers.map(Answer::into_ended).sum())
            }
            Question::Redeem(_) => Answer::Redeemed(answers.filter_map(Answer::into_left).next()),
        }
    }
}

impl Answer {
    fn into_counts(self) -> Vec<usize> {
        if let Answer::Counts(counts) = self { counts } else { Vec::new() }
    }

    fn into_topics(self) -> Vec<Topic> {
        if let Answer::Topics(topics) = self { topics } else { Vec::new() }
    }

    fn into_members(self) -> Vec<SessionInfo> {
        if let Answer::Members(members) = self { members } else { Vec::new() }
    }

    fn into_present(self) -> Vec<Attending<Present>> {
        if let Answer::Present(present) = self { present } else { Vec::new() }
    }

    fn into_rooms(self) -> Vec<Attending<RoomVersion>> {
        if let Answer::Rooms(rooms) = self { rooms } else { Vec::new() }
    }

    fn into_sessions(self) -> Vec<SessionView> {
        if let Answer::Sessions(sessions) = self { sessions } else { Vec::new() }
    }

    fn into_ended(self) -> usize {
        if let Answer::Ended(count) = self { count } else { 0 }
    }

    fn into_left(self) -> Option<String> {
        if let Answer::Redeemed(left) = self { left } else { None }
    }
}

impl BrokerHandle {
    /// What the sessions of this node answer.
    pub async fn answer(&self, question: Question) -> Answer {
        if let Question::Redeem(ticket) = &question {
            return Answer::Redeemed(self.shared.tickets.take(ticket, self.now()));
        }
        if let Some(answer) = self.attending(&question) {
            return answer;
        }
        let question = Arc::new(question);
        let answers = self.ask_all(|worker| worker.asked.send(Asked(question.clone()))).await;
        let mut answer = question.sum(answers);
        let node = || Some(self.shared.observer.node().to_owned());
        match &mut answer {
            Answer::Members(members) => members.iter_mut().for_each(|info| info.node = node()),
            Answer::Sessions(all) => all.iter_mut().for_each(|view| view.info.node = node()),
            _ => {}
        }
        answer
    }

    /// What is said of who is in topics, which is no question to sessions.
    fn attending(&self, question: &Question) -> Option<Answer> {
        let observer = &self.shared.observer;
        Some(match question {
            Question::Present(patterns, after, limit) => {
                Answer::Present(vec![observer.present(patterns, after.as_ref(), *limit)])
            }
            Question::Rooms(patterns, after, limit) => {
                Answer::Rooms(vec![observer.rooms(patterns, after.as_ref(), *limit)])
            }
            _ => return None,
        })
    }

    /// What all nodes answer.
    async fn gather(&self, question: Question) -> Result<Gathered<Answer>, Problem> {
        let here = self.answer(question.clone());
        let (here, elsewhere) = join(here, self.shared.relay.ask(question.clone())).await;
        let Answers { answers: mut all, silent } = elsewhere?;
        all.push(here);
        Ok(Gathered { all: question.sum(all), silent })
    }

    /// How many sessions would receive an event of each of `topics`.
    pub async fn subscribers(&self, topics: Vec<Topic>) -> Result<Gathered<Vec<usize>>, Problem> {
        Ok(self.gather(Question::Count(topics)).await?.map(Answer::into_counts))
    }

    /// Topics with subscribers by name or with kept events, by name. What somebody subscribes to is listed, whether its
    /// value was removed or not.
    pub async fn topics(&self, list: ListTopics) -> Result<Vec<TopicSummary>, Problem> {
        let mut topics = self.shared.history.topics(list.clone()).await?;
        let limit = list.limit;
        let named = self.gather(Question::Topics(list)).await?.all.into_topics();
        topics.extend(named.into_iter().map(TopicSummary::empty));
        // The summary that has events sorts first, so that it is the one that stays.
        topics.sort_by(|a, b| a.topic.cmp(&b.topic).then(b.retained.cmp(&a.retained)));
        topics.dedup_by(|b, a| {
            let is_same = a.topic == b.topic;
            a.is_removed &= !is_same;
            is_same
        });
        topics.truncate(limit);
        Ok(topics)
    }

    /// Topics that somebody subscribes to by name, by name.
    pub async fn subscribed_topics(
        &self,
        list: ListTopics,
    ) -> Result<Gathered<Vec<Topic>>, Problem> {
        let limit = list.limit;
        let mut named = self.gather(Question::Topics(list)).await?.map(Answer::into_topics);
        named.all.sort_unstable();
        named.all.dedup();
        named.all.truncate(limit);
        Ok(named)
    }

    /// The sessions that would receive an event of `topic`, by id.
    pub async fn presence(
        &self,
        topic: Topic,
        range: Range,
    ) -> Result<Gathered<Vec<SessionInfo>>, Problem> {
        Ok(self.gather(Question::Members(topic, range)).await?.map(Answer::into_members))
    }

    /// How many sessions of each of these users would receive an event of `topic`.
    pub async fn user_sessions(
        &self,
        topic: Topic,
        users: Vec<String>,
    ) -> Result<Gathered<Vec<usize>>, Problem> {
        Ok(self.gather(Question::CountUsers(topic, users)).await?.map(Answer::into_counts))
    }

    /// Who is in the topics that match by name: what each node says of those after the one given.
    pub(super) async fn present(
        &self,
        patterns: Vec<Pattern>,
        after: Option<(Topic, String)>,
        limit: usize,
    ) -> Result<Gathered<Vec<Attending<Present>>>, Problem> {
        let question = Question::Present(patterns, after, limit);
        Ok(self.gather(question).await?.map(Answer::into_present))
    }

    /// How far each node has told who is in the topics that match, after the one given.
    pub(super) async fn rooms(
        &self,
        patterns: Vec<Pattern>,
        after: Option<Topic>,
        limit: usize,
    ) -> Result<Gathered<Vec<Attending<RoomVersion>>>, Problem> {
        Ok(self.gather(Question::Rooms(patterns, after, limit)).await?.map(Answer::into_rooms))
    }

    /// The sessions of all nodes, of one user where one is given, by id.
    pub async fn sessions(
        &self,
        user: Option<String>,
        range: Range,
    ) -> Result<Gathered<Vec<SessionView>>, Problem> {
        Ok(self.gather(Question::Sessions(user, range)).await?.map(Answer::into_sessions))
    }

    /// The same, in another order.
    pub async fn ranked_sessions(
        &self,
        user: Option<String>,
        ranking: Ranking,
    ) -> Result<Gathered<Vec<SessionView>>, Problem> {
        let question = Question::RankedSessions(user, ranking);
        Ok(self.gather(question).await?.map(Answer::into_sessions))
    }

    /// The session with this id.
    pub async fn session(&self, id: String) -> Result<Option<SessionView>, Problem> {
        // Ids are all as long, so what comes after one without its end is that one.
        let end = id.char_indices().last().map_or(0, |(at, _)| at);
        let range = Range { after: Some(id[..end].to_owned()), limit: 1 };
        let found = self.sessions(None, range).await?.all.pop();
        Ok(found.filter(|view| *view.info.id == *id))
    }

    /// Ends the session with this id; false if there is none on any node.
    pub async fn end_session(&self, id: String) -> Result<bool, Problem> {
        let ended = self.gather(Question::EndSession(id)).await?.map(Answer::into_ended);
        if ended.all > 0 { Ok(true) } else { Ok(ended.whole()? > 0) }
    }

    /// Ends every session of a user on every node; returns how many.
    pub async fn end_user(&self, user: String) -> Result<usize, Problem> {
        self.gather(Question::EndUser(user)).await?.map(Answer::into_ended).whole()
    }

    /// Ends every session with a token that is accepted no longer, on every node; returns how many.
    pub async fn end_revoked(&self, revocation: Revocation) -> Result<Gathered<usize>, Problem> {
        Ok(self.gather(Question::EndRevoked(revocation)).await?.map(Answer::into_ended))
    }

    /// Ends such sessions of this node.
    pub async fn end_revoked_here(&self, revocation: Revocation) {
        self.answer(Question::EndRevoked(revocation)).await;
    }

    /// Leaves something for whoever shows a ticket, once, at any node.
    pub fn leave(&self, left: String) -> Result<String, Problem> {
        let ticket = self.shared.tickets.leave(left, self.now());
        let detail = "too many tickets wait to be used (auth.tickets)";
        ticket.ok_or_else(|| Problem::new(Code::TooMany, detail))
    }

    /// What was left for a ticket, which is used up with that.
    pub async fn redeem(&self, ticket: &str) -> Result<Option<String>, Problem> {
        if !Tickets::may_be(ticket) {
            return Ok(None);
        }
        let here = self.shared.tickets.take(ticket, self.now());
        if here.is_some() {
            return Ok(here);
        }
        let Answers { answers, silent } =
            self.shared.relay.ask(Question::Redeem(ticket.to_owned())).await?;
        let left = answers.into_iter().find_map(Answer::into_left);
        // A node that was silent may have given it out, and keep it still.
        if left.is_none() { Gathered { all: None, silent }.whole() } else { Ok(left) }
    }
}
