//! What the worker answers to other threads: who is there, what they are subscribed to, and that some are ended.

use std::collections::HashMap;

use super::super::orders::{Commanded, Obedience, Order, Overhear, Overheard};
use super::super::subscriber::{Strain, Subscriber};
use super::super::{Answer, Question, SessionInfo, SessionKey, SessionView, Sort, Value};
use super::{Entry, Worker};
use crate::history::ListTopics;
use crate::model::{Audience, Close, Pattern, Topic};

impl<S: Subscriber> Worker<S> {
    /// Answers for the sessions of this thread.
    pub(in super::super) fn answer(&mut self, question: &Question) -> Answer {
        match question {
            Question::Count(topics) => {
                Answer::Counts(topics.iter().map(|topic| self.receivers(topic).count()).collect())
            }
            Question::Topics(list) => Answer::Topics(self.topic_names(list)),
            Question::Members(topic, range) => {
                let members = self.receivers(topic).map(|entry| (&*entry.info.id, entry));
                let members = range.pick(members).into_iter();
                Answer::Members(members.map(|entry| entry.info.clone()).collect())
            }
            Question::Sessions(user, range) => {
                let sessions = self.sessions_of(user.as_deref());
                let sessions = sessions.map(|(key, entry)| (&*entry.info.id, (key, entry)));
                let sessions = range.pick(sessions).into_iter();
                Answer::Sessions(sessions.map(|(key, entry)| self.view(key, entry)).collect())
            }
            Question::RankedSessions(user, ranking) => {
                let sessions = self
                    .sessions_of(user.as_deref())
                    .map(|(key, entry)| (entry.value(ranking.sort), &*entry.info.id, (key, entry)));
                let sessions = ranking.pick(sessions).into_iter();
                Answer::Sessions(sessions.map(|(key, entry)| self.view(key, entry)).collect())
            }
            Question::EndSession(id) => self.end_each(Close::Policy, |info| *info.id == **id),
            Question::EndUser(user) => {
                self.end_each(Close::Policy, |info| info.user() == Some(user))
            }
            Question::EndRevoked(revocation) => {
                let ended = self.end_each(Close::Unauthorized, |info| {
                    info.bearer.as_ref().is_some_and(|bearer| revocation.covers(bearer))
                });
                // Others may have had a topic by such a token.
                self.recheck_all_rights();
                ended
            }
            Question::Command(order) => Answer::Commanded(self.command(order)),
            Question::Overhear(letter) => Answer::Overheard(self.overhear(letter)),
            Question::CountUsers(topic, users) => Answer::Counts(self.count_users(topic, users)),
            Question::Redeem(_) => Answer::Redeemed(None),
            // What is said of who comes and goes is known elsewhere.
            Question::Present(..) => Answer::Present(Vec::new()),
            Question::Rooms(..) => Answer::Rooms(Vec::new()),
        }
    }

    /// Those who would receive an event of a topic.
    fn receivers(&self, topic: &Topic) -> impl Iterator<Item = &Entry<S>> {
        let subscribed = self.topics.subscribers(topic);
        let entries = subscribed.filter_map(|key| self.sessions.get(key));
        entries.filter(|entry| entry.subscriber.may_receive(topic))
    }

    fn count_users(&self, topic: &Topic, users: &[String]) -> Vec<usize> {
        let mut sessions_by_user: HashMap<_, _> =
            users.iter().map(|user| (user.as_str(), 0)).collect();
        for user in self.receivers(topic).filter_map(|entry| entry.info.user()) {
            sessions_by_user.entry(user).and_modify(|sessions| *sessions += 1);
        }
        users.iter().map(|user| sessions_by_user[user.as_str()]).collect()
    }

    fn topic_names(&self, ListTopics { pattern, after, limit }: &ListTopics) -> Vec<Topic> {
        let subscribed = self.topics.exact().filter_map(Pattern::as_topic);
        let is_after = |topic: &Topic| after.as_ref().is_none_or(|after| topic > after);
        let matching = subscribed.filter(|topic| pattern.matches(topic) && is_after(topic));
        let mut topics: Vec<_> = matching.collect();
        topics.sort_unstable();
        topics.truncate(*limit);
        topics
    }

    fn sessions_of(&self, user: Option<&str>) -> impl Iterator<Item = (SessionKey, &Entry<S>)> {
        let of_user = move |entry: &Entry<S>| user.is_none() || entry.info.user() == user;
        self.sessions.iter().filter(move |(_, entry)| of_user(entry))
    }

    fn view(&self, key: SessionKey, entry: &Entry<S>) -> SessionView {
        let mut subscriptions: Vec<_> = self.topics.patterns(key).cloned().collect();
        subscriptions.sort_unstable();
        let queued_bytes = entry.subscriber.queued_bytes();
        let Strain { lag, skipped, .. } = entry.subscriber.strain(self.now());
        let lag_ms = u64::try_from(lag.as_millis()).ok();
        SessionView {
            info: entry.info.clone(),
            subscriptions,
            queued_bytes,
            lag_ms,
            skipped: Some(skipped),
        }
    }

    fn command(&mut self, Order { audience, words }: &Order) -> Obedience {
        let keys = self.keys_of(|info| match audience {
            Audience::Session(id) => *info.id == **id,
            Audience::User(user) => info.user() == Some(user),
            Audience::All => true,
        });
        let mut obedience = Obedience::default();
        for key in keys {
            let Some(commanded) = self.with(key, |subscriber| subscriber.command(words)) else {
                continue;
            };
            match commanded {
                Commanded::Run(errand) => self.errands.push_back((key, errand)),
                Commanded::Unsubscribed(patterns) => self.unroute(key, &patterns),
                Commanded::End(close) => self.end(key, close),
                Commanded::Refused => {
                    obedience.refused += 1;
                    continue;
                }
            }
            obedience.done += 1;
        }
        obedience
    }

    fn overhear(&mut self, Overhear { session, secret, message }: &Overhear) -> Overheard {
        let keys = self.keys_of(|info| *info.id == **session);
        let heard = keys
            .first()
            .and_then(|key| self.with(*key, |subscriber| subscriber.overhear(secret, message)));
        heard.unwrap_or(Overheard::Nobody)
    }

    fn keys_of(&self, is_meant: impl Fn(&SessionInfo) -> bool) -> Vec<SessionKey> {
        let meant = self.sessions.iter().filter(|(_, entry)| is_meant(&entry.info));
        meant.map(|(key, _)| key).collect()
    }

    fn end_each(&mut self, close: Close, is_meant: impl Fn(&SessionInfo) -> bool) -> Answer {
        let keys = self.keys_of(is_meant);
        keys.iter().for_each(|key| self.end(*key, close));
        Answer::Ended(keys.len())
    }
}

impl<S: Subscriber> Entry<S> {
    /// What it is listed by.
    fn value(&self, sort: Sort) -> Value<'_> {
        sort.value(&self.info, self.subscriber.queued_bytes())
    }
}
