//! Who is in topics: asked behind what the history holds, and told in its place.

use std::sync::Arc;

use super::super::reading::{First, Kind, MAX_NAMED, Reading};
use super::super::topic_set::TopicSet;
use super::{Cancelled, PAGE_EVENTS, Replay};
use crate::broker::Roll;
use crate::model::{Cursor, Pattern, Problem, Topic};

impl Replay {
    /// Whether the client is told who is in topics, where it asks about these.
    pub(super) fn tells_members(&self) -> bool {
        matches!(self.reading.first, First::Values(_))
    }

    /// Of which patterns it is asked who is in their topics.
    fn rooms(&self) -> impl Iterator<Item = &Pattern> {
        let Reading { patterns, first, .. } = &self.reading;
        let patterns = match first {
            First::Values(values) => &values.patterns,
            First::Nothing | First::Tail(_) => patterns,
        };
        patterns.iter().filter(|pattern| pattern.is_presence())
    }

    /// The topics where it is told who is in others, as the patterns name them; none where they are too many for a
    /// gap, or have no names.
    pub(super) fn named_rooms(&self) -> Option<Vec<Topic>> {
        let rooms: Option<Vec<_>> = self.rooms().map(Pattern::as_topic).collect();
        rooms.filter(|rooms| rooms.len() <= MAX_NAMED)
    }

    /// Asks who is in topics, at the place where this node knows it.
    pub(super) async fn call_roll(&self, asked: &TopicSet) {
        let asked: Arc<[_]> = match asked {
            TopicSet::Of(rooms) => rooms.iter().map(Pattern::from).collect(),
            TopicSet::Nothing | TopicSet::All => self.rooms().cloned().collect(),
        };
        self.broker.presence_known(&asked).await;
        self.worker.call_roll(self.session, self.reading.barrier, asked);
    }

    /// Has a client that knew who is in topics after a place forget it, and begin anew where no gap can name these.
    pub(super) async fn forget_members(
        &self,
        since: Option<Cursor>,
        upto: Option<Cursor>,
    ) -> Result<Result<(), Cancelled>, Problem> {
        let (Some(since), Some(upto)) = (since, upto) else { return Ok(Ok(())) };
        let rooms = self.named_rooms();
        if self.tell_gap(since, rooms.as_deref().unwrap_or_default()).is_err() {
            return Ok(Err(Cancelled));
        }
        match rooms {
            None if self.tells_members() => self.open(None, upto).await,
            _ => Ok(Ok(())),
        }
    }

    /// Sends who is in topics, where that is wanted.
    pub(super) async fn send_members(&self, roll: &Roll) -> Result<(), Cancelled> {
        if !self.tells_members() {
            return Ok(());
        }
        for (at, member) in roll.members().enumerate() {
            let Some(event) = member.event() else { continue };
            self.send_on(&[Arc::new(event)], Kind::Snapshot).await?;
            if at % PAGE_EVENTS == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}
