//! What is asked of all nodes: how many sessions, whose, which; that some shall end; and what was left
//! for a ticket.
//!
//! Here are the questions, what is answered, what several answers say together, and the [`Relay`], which
//! takes a question to the other nodes. Who asks is `gathering.rs`.

use std::future::ready;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::orders::{Obedience, Order, Overhear, Overheard};
use super::{Attending, Range, Ranking, RoomVersion, SessionInfo, SessionView};
use crate::history::ListTopics;
use crate::model::{Event, Pattern, Present, Problem, Revocation, Topic};

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
    /// Have these sessions do this. (Nodes of earlier releases don't know it, and are silent.)
    Command(Order),
    /// Hear what the client of a session says, who knows its secret. (Likewise.)
    Overhear(Overhear),
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
    /// So many sessions do it, and so many have no right to it.
    Commanded(Obedience),
    /// This became of it.
    Overheard(Overheard),
}

/// What other nodes answer.
#[derive(Debug, Default)]
pub struct Answers {
    /// An answer of each node that gave one.
    pub answers: Vec<Answer>,
    /// How many nodes are there and gave none.
    pub silent: usize,
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
    pub(super) fn sum(&self, answers: Vec<Answer>) -> Answer {
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
            Question::Command(..) => Answer::Commanded(answers.map(Answer::into_obedience).sum()),
            Question::Overhear(_) => {
                Answer::Overheard(Overheard::any(answers.map(Answer::into_overheard)))
            }
        }
    }
}

impl Answer {
    pub(super) fn into_counts(self) -> Vec<usize> {
        if let Answer::Counts(counts) = self { counts } else { Vec::new() }
    }

    pub(super) fn into_topics(self) -> Vec<Topic> {
        if let Answer::Topics(topics) = self { topics } else { Vec::new() }
    }

    pub(super) fn into_members(self) -> Vec<SessionInfo> {
        if let Answer::Members(members) = self { members } else { Vec::new() }
    }

    pub(super) fn into_present(self) -> Vec<Attending<Present>> {
        if let Answer::Present(present) = self { present } else { Vec::new() }
    }

    pub(super) fn into_rooms(self) -> Vec<Attending<RoomVersion>> {
        if let Answer::Rooms(rooms) = self { rooms } else { Vec::new() }
    }

    pub(super) fn into_sessions(self) -> Vec<SessionView> {
        if let Answer::Sessions(sessions) = self { sessions } else { Vec::new() }
    }

    pub(super) fn into_ended(self) -> usize {
        if let Answer::Ended(count) = self { count } else { 0 }
    }

    pub(super) fn into_obedience(self) -> Obedience {
        if let Answer::Commanded(obedience) = self { obedience } else { Obedience::default() }
    }

    pub(super) fn into_overheard(self) -> Overheard {
        if let Answer::Overheard(overheard) = self { overheard } else { Overheard::Nobody }
    }

    pub(super) fn into_left(self) -> Option<String> {
        if let Answer::Redeemed(left) = self { left } else { None }
    }
}
