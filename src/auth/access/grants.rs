//! What tokens add to the rights of a session, topic by topic, without making it somebody else.

use std::sync::Arc;
use std::time::SystemTime;

use super::Access;
use crate::model::Topic;

/// The grants of one session; mostly there are none.
#[derive(Debug, Clone, Default)]
pub(super) struct Grants(Option<Arc<Vec<Grant>>>);

/// Topics that a session may subscribe to, for as long as a token that says so holds.
#[derive(Debug, Clone)]
pub struct Grant {
    topics: Vec<Topic>,
    /// What the token gives by itself.
    access: Access,
}

impl Grant {
    /// Rights to these topics, as far as `access` gives them at each moment.
    pub fn new(topics: Vec<Topic>, access: Access) -> Self {
        Self { topics, access }
    }

    /// What the token gives by itself.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The same, as the rights of the token are now.
    pub(in super::super) fn under(&self, access: Access) -> Self {
        Self { topics: self.topics.clone(), access }
    }

    fn gives(&self, topic: &Topic) -> bool {
        self.topics.contains(topic) && self.access.may_subscribe(topic)
    }
}

impl Grants {
    pub(super) fn all(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter().flat_map(|grants| grants.iter())
    }

    pub(super) fn of(all: Vec<Grant>) -> Self {
        Self((!all.is_empty()).then(|| Arc::new(all)))
    }

    pub(super) fn give(&self, topic: &Topic) -> bool {
        self.all().any(|grant| grant.gives(topic))
    }

    /// The topics that they give.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.all().flat_map(|grant| grant.topics.iter().filter(|topic| grant.gives(topic)))
    }
}

impl Access {
    /// These rights, and those of a grant in the place of earlier ones to its topics.
    pub fn with(&self, grant: Grant) -> Self {
        let mut all: Vec<_> = self.grants.all().cloned().collect();
        for earlier in &mut all {
            earlier.topics.retain(|topic| !grant.topics.contains(topic));
        }
        all.retain(|earlier| !earlier.topics.is_empty());
        all.push(grant);
        self.with_all(all)
    }

    /// These rights with these grants alone.
    pub(in super::super) fn with_all(&self, grants: Vec<Grant>) -> Self {
        Self { grants: Grants::of(grants), ..self.clone() }
    }

    /// What tokens have added.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.all()
    }

    /// How many topics tokens have added.
    pub fn granted_topics(&self) -> usize {
        self.grants.all().map(|grant| grant.topics.len()).sum()
    }

    /// When the first grant ends.
    pub fn first_grant_ends(&self) -> Option<SystemTime> {
        let users = self.grants.all().filter_map(|grant| grant.access.caller().user());
        users.map(|user| user.expires).min()
    }
}
