//! Asking all nodes, and what they answer together.
//!
//! A question goes to every worker of this node, and through the relay to all other nodes, whose workers
//! answer it alike. Nothing is kept for that anywhere, so nothing can be out of date. A node that is there
//! and does not answer in time is counted, for what it would have said is missing.

use std::sync::Arc;

use futures_util::future::join;

use super::fanout::Asked;
use super::tickets::Tickets;
use super::{
    Answer, Answers, Attending, BrokerHandle, Obedience, Order, Overhear, Overheard, Question,
    Range, Ranking, RoomVersion, SessionInfo, SessionView,
};
use crate::history::{ListTopics, TopicSummary};
use crate::model::{Code, Pattern, Present, Problem, Revocation, Topic};

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
    pub fn whole(self) -> Result<T, Problem> {
        match self.silent {
            0 => Ok(self.all),
            silent => {
                let detail = format!("{silent} nodes did not answer in time; try again");
                Err(Problem::new(Code::Unavailable, detail))
            }
        }
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

    /// Has sessions of every node do something.
    pub async fn command(&self, order: Order) -> Result<Gathered<Obedience>, Problem> {
        Ok(self.gather(Question::Command(order)).await?.map(Answer::into_obedience))
    }

    /// Has the session hear what its client says over another request, on whatever node it is.
    pub async fn overhear(&self, letter: Overhear) -> Result<Gathered<Overheard>, Problem> {
        Ok(self.gather(Question::Overhear(letter)).await?.map(Answer::into_overheard))
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
