//! How a node learns who is in the topics that its sessions ask about.
//!
//! It asks all nodes once somebody wants to know, and again where it may have missed something: a change whose number
//! does not follow, a node that is new, one that has told more than came here. Who was at a node that is gone is gone
//! with it. Where that shows that sessions were told something that is not so, they hear of a gap.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use super::roster::{InquiryAnswer, Roster};
use super::{Attending, BrokerHandle, Gathered};
use crate::model::{Pattern, Present, Problem, Topic};

/// How often it is looked which nodes are there, and at other times whether anything was missed.
const LOOK: Duration = Duration::from_millis(500);

/// At every so many looks what nodes have told is compared with what came here.
const COMPARED: u32 = 4;

/// For so many looks a node may be heard of before it is known to be there.
const UNKNOWN: u32 = 6;

/// How many members are asked for together.
const MEMBERS: usize = 256;

/// How many topics are compared together.
const ROOMS: usize = 1_024;

/// What is remembered from look to look.
#[derive(Default)]
struct Keeper {
    looks: u32,
    /// For so many looks it is compared each time, for there is a node that may not have been asked.
    hurries: u32,
    /// Nodes that were there.
    seen: BTreeSet<String>,
    /// For how many looks others have not been.
    absent: BTreeMap<String, u32>,
    /// What did not come here yet when it was compared last.
    behind: Behind,
}

/// By topic and node, the newest change that is known here where a newer one was told.
type Behind = HashMap<(Topic, String), u64>;

impl BrokerHandle {
    /// Knows who is in the topics that sessions of this node ask about. Never ends.
    pub async fn call_rolls(&self) {
        let (mut keeper, mut looks) = (Keeper::default(), interval(LOOK));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                biased;
                () = self.shared.router.asks() => self.ask_unknown().await,
                _ = looks.tick() => keeper.look(self).await,
            };
            if let Err(problem) = done {
                debug!(%problem, "who is in some topics can't be asked yet");
            }
        }
    }

    /// Waits until it is known who is in the topics of these patterns.
    pub async fn presence_known(&self, patterns: &[Pattern]) {
        self.shared.router.known(patterns).await;
    }

    /// Asks about all that is not known.
    async fn ask_unknown(&self) -> Result<(), Problem> {
        while let Some(patterns) = self.shared.router.roster(Roster::begin_inquiry) {
            self.inquire(patterns).await?;
        }
        Ok(())
    }

    /// Asks about these topics, whatever is known of them.
    async fn ask_about_all(&self, patterns: Vec<Pattern>) -> Result<(), Problem> {
        match self.shared.router.roster(|roster| roster.inquire(patterns)) {
            Some(patterns) => self.inquire(patterns).await,
            None => Ok(()),
        }
    }

    async fn inquire(&self, patterns: Vec<Pattern>) -> Result<(), Problem> {
        let (heard, router) = (self.hear_all(patterns).await, &self.shared.router);
        let heard = heard.inspect_err(|_| router.roster(Roster::cancel_inquiry))?;
        router.revise_roster(|roster| roster.end_inquiry(heard));
        Ok(())
    }

    /// What all nodes say, page by page.
    async fn hear_all(&self, patterns: Vec<Pattern>) -> Result<InquiryAnswer, Problem> {
        let (mut heard, mut after) = (InquiryAnswer::default(), None);
        loop {
            let Gathered { all: pages, silent } =
                self.present(patterns.clone(), after.clone(), MEMBERS).await?;
            if after.is_none() {
                heard.is_whole = silent == 0;
                let changes = pages.iter().map(|page| (page.node.clone(), page.changes));
                heard.changes_by_node = changes.collect();
            }
            let answered: BTreeSet<_> = pages.iter().map(|page| &page.node).collect();
            if !heard.changes_by_node.keys().all(|node| answered.contains(node)) {
                // What it has said so far is half of what it would say.
                heard = InquiryAnswer::default();
                after = None;
                continue;
            }
            let upto = upto(&pages, place);
            let new =
                pages.into_iter().filter(|page| heard.changes_by_node.contains_key(&page.node));
            let new = new.flat_map(|page| page.found);
            heard.members.extend(new.filter(|one| upto.is_none() || place(one) <= upto));
            if upto.is_none() {
                return Ok(heard);
            }
            after = upto;
        }
    }
}

impl Keeper {
    async fn look(&mut self, broker: &BrokerHandle) -> Result<(), Problem> {
        let router = &broker.shared.router;
        let mut there: BTreeSet<_> = broker.shared.relay.others().into_iter().collect();
        there.insert(broker.shared.observer.node().to_owned());
        let gone = self.lost_nodes(&there, router.roster(|roster| roster.nodes()));
        if !gone.is_empty() {
            debug!(?gone, "nodes are gone, and who was there with them");
            router.revise_roster(|roster| roster.lose_nodes(&gone));
        }
        let is_new = !there.is_subset(&self.seen);
        if router.roster(|roster| roster.is_idle()) {
            self.seen = there;
            return Ok(());
        }
        broker.ask_unknown().await?;
        self.seen = there;
        self.hurries = if is_new { COMPARED } else { self.hurries.saturating_sub(1) };
        self.looks = self.looks.wrapping_add(1);
        let is_time = self.hurries > 0 || self.looks.is_multiple_of(COMPARED);
        if is_time { self.compare(broker).await } else { Ok(()) }
    }

    /// Nodes that are not there any more.
    fn lost_nodes(
        &mut self,
        there: &BTreeSet<String>,
        heard_of: BTreeSet<String>,
    ) -> BTreeSet<String> {
        self.absent.retain(|node, _| heard_of.contains(node) && !there.contains(node));
        let absent = heard_of.into_iter().filter(|node| !there.contains(node));
        let is_gone = |node: &String| {
            let looks = self.absent.entry(node.clone()).or_default();
            *looks += 1;
            self.seen.contains(node) || *looks > UNKNOWN
        };
        absent.filter(is_gone).collect()
    }

    /// Compares what nodes have told with what came here. What did not come from one time to the next was lost.
    async fn compare(&mut self, broker: &BrokerHandle) -> Result<(), Problem> {
        let router = &broker.shared.router;
        router.roster(Roster::forget_empty);
        let mut behind = Behind::new();
        for patterns in router.roster(|roster| roster.followed()) {
            let mut after = None;
            loop {
                let pages = broker.rooms(patterns.clone(), after.clone(), ROOMS).await?.all;
                let upto = upto(&pages, |state| Some(state.room.clone()));
                let is_asked = |room: &Topic| {
                    let is_in = after.as_ref().is_none_or(|after| room > after)
                        && upto.as_ref().is_none_or(|upto| room <= upto);
                    is_in && patterns.iter().any(|pattern| pattern.matches(room))
                };
                behind.extend(router.roster(|roster| roster.behind(&pages, is_asked)));
                if upto.is_none() {
                    break;
                }
                after = upto;
            }
        }
        let is_stuck =
            |(of, number): &(&(Topic, String), &u64)| self.behind.get(of) == Some(number);
        let stuck = behind.iter().filter(is_stuck).map(|((room, _), _)| Pattern::from(room));
        let stuck: BTreeSet<_> = stuck.collect();
        self.behind = behind;
        if stuck.is_empty() {
            return Ok(());
        }
        debug!(?stuck, "changes of who is in these topics were lost");
        broker.ask_about_all(stuck.into_iter().collect()).await
    }
}

/// Where a member stands in the order of topic and session.
fn place(one: &Present) -> Option<(Topic, String)> {
    Some((one.member.topic.presence()?, one.member.session.clone()))
}

/// The place up to which all pages are whole; none where they are to their ends.
fn upto<T, P: Ord>(pages: &[Attending<T>], place: impl Fn(&T) -> Option<P>) -> Option<P> {
    let cut = pages.iter().filter(|page| page.is_cut);
    cut.filter_map(|page| page.found.last().and_then(&place)).min()
}
