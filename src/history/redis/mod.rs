//! The log in Redis, shared by all nodes: one sequence, one slot, one channel.
//!
//! A script numbers, stores and tells a publish in one call; every node follows every number on the
//! channel and delivers in the order of the log. All of it runs on a thread of its own, whose tasks
//! publish, follow, probe, sweep and keep the connections. `docs/cluster.md` says it from the outside.

mod assurance;
mod away;
mod back;
mod connection;
mod delivery;
mod departures;
mod ear;
mod ends;
mod entry;
mod epochs;
mod follower;
mod gathering;
mod keys;
mod leases;
mod link;
mod losses;
mod needs;
mod neighbours;
mod nodes;
mod pace;
mod plain;
mod locator;
mod probe;
mod publisher;
mod reader;
mod reads;
mod refusals;
mod scripts;
mod log_state;
mod survey;
mod sweeper;
mod turn;

use std::io;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime;
use tokio::sync::{Notify, oneshot};
use tracing::{error, info, warn};

use self::assurance::{Assurance, Told};
pub use self::away::Away;
pub use self::connection::Connection;
use self::ear::Ear;
use self::ends::Ends;
use self::follower::Follower;
use self::link::{Link, Server};
pub use self::locator::Locator;
use self::log_state::LogState;
pub use self::neighbours::{Letter, LetterKind};
pub use self::nodes::Nodes;
use self::probe::Probe;
use self::publisher::{Publisher, Queue};
use self::reader::Reader;
use self::sweeper::Sweeper;
pub use self::turn::Turn;
use super::{
    Append, AppendError, BackPage, Departure, Ending, Feed, History, Kept, ListTopics, Moment,
    Newest, NewestPage, Page, Read, ReadBack, Receipt, Since, Stock, TopicSummary,
};
use crate::clock::within;
use crate::config::{self, Rules};
use crate::metrics::LOG;
use crate::model::{Cursor, Problem, Topic};
use crate::panics::lock;

/// How long a start waits for Redis.
const START: Duration = Duration::from_secs(10);

/// Why a node can't join the log.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The address is not one.
    #[error("redis.url can't be used: {0}")]
    Address(String),
    /// Redis does not answer, or not as it must.
    #[error("Redis could not be joined within {START:?}: {0}")]
    Away(String),
    /// There is no thread for it.
    #[error("a thread could not be started: {0}")]
    Thread(#[from] io::Error),
}

/// A log that is joined and not yet followed.
pub struct Joined {
    server: Arc<Server>,
    state: LogState,
    start: oneshot::Sender<Start>,
    thread: JoinHandle<()>,
}

/// What the thread of the log is told when all is wired.
struct Start {
    feed: Arc<dyn Feed>,
    assurance: Arc<Assurance>,
    queue: Arc<Queue>,
    due: Arc<Notify>,
    config: config::History,
    rules: Rules,
}

/// The log in Redis.
pub struct RedisHistory {
    server: Arc<Server>,
    queue: Arc<Queue>,
    reader: Reader,
    assurance: Arc<Assurance>,
    ends: Ends,
    due: Arc<Notify>,
    redis_bytes: u64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Joined {
    /// Joins the log of `redis`, which hears it from here on. Blocks until Redis answers.
    pub fn open(redis: &config::Redis) -> Result<Self, JoinError> {
        let server = Server::new(redis);
        let server = Arc::new(server.map_err(|error| JoinError::Address(error.category().into()))?);
        let (start, started) = oneshot::channel();
        let (joined_out, joined_in) = mpsc::channel();
        let at_work = server.clone();
        let thread = thread::Builder::new().name("history-redis".to_owned()).spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(work(at_work, joined_out, started)),
                Err(error) => error!(%error, "the thread of Redis could not be started"),
            }
        })?;
        let state = joined_in.recv().map_err(|_| JoinError::Away("the thread has ended".into()))?;
        let state = state.map_err(JoinError::Away)?;
        Ok(Self { server, state, start, thread })
    }

    /// The place after which new events will be heard.
    pub fn head(&self) -> Cursor {
        self.state.head
    }

    /// Starts to publish, and to tell `feed`.
    pub fn start(
        self,
        config: &config::History,
        rules: Rules,
        feed: Arc<dyn Feed>,
    ) -> RedisHistory {
        let Self { server, state, start, thread } = self;
        let told = Told { at: state.head, breach: state.breach, removals: state.removals };
        let assurance = Arc::new(Assurance::new(server.clone(), told));
        let queue = Arc::new(Queue::new(config.pending_bytes));
        let due = Arc::new(Notify::new());
        let (linger, redis_bytes) = (config.bound_linger, config.redis_bytes as u64);
        let config = config.clone();
        let reader = Reader { server: server.clone() };
        let (at_work, queued, sweeps) = (assurance.clone(), queue.clone(), due.clone());
        let wired = Start { feed, assurance: at_work, queue: queued, due: sweeps, config, rules };
        if start.send(wired).is_err() {
            error!("the thread of Redis has ended");
        }
        let thread = Mutex::new(Some(thread));
        let ends = Ends::new(server.clone(), linger);
        RedisHistory { server, queue, reader, assurance, ends, due, redis_bytes, thread }
    }
}

/// The work of the thread: hears the log, says where it stands, and goes on until it is stopped.
async fn work(
    server: Arc<Server>,
    joined: mpsc::Sender<Result<LogState, String>>,
    start: oneshot::Receiver<Start>,
) {
    tokio::spawn(server.clone().keep());
    let mut last = Away("it does not answer".to_owned());
    let (ear, state) = match within(START, join(&server, &mut last)).await {
        Ok(joined) => joined,
        Err(_) => {
            let Away(reason) = server.link().err().unwrap_or(last);
            _ = joined.send(Err(reason));
            return;
        }
    };
    info!(node = %server.node, "the log in Redis is joined");
    _ = joined.send(Ok(state.clone()));
    let Ok(Start { feed, assurance, queue, due, config, rules }) = start.await else { return };
    let deaf = Arc::new(Notify::new());
    let probe = Probe { server: server.clone(), deaf: deaf.clone() };
    tokio::spawn(assurance.clone().run());
    let follower = Follower::new(server.clone(), feed, assurance, &state, deaf);
    tokio::spawn(follower.run(ear));
    tokio::spawn(probe.run());
    tokio::spawn(Sweeper::new(server.clone(), rules.clone(), config.clone()).run(due));
    Publisher { server: server.clone(), queue, rules, config }.run().await;
    server.say_good_bye().await;
}

/// Joins the log, however often that fails; why it failed last.
async fn join(server: &Arc<Server>, last: &mut Away) -> (Ear, LogState) {
    loop {
        let Some(link) = server.linked().await else { continue };
        match hear_and_join(server, &link).await {
            Ok((ear, state)) => {
                if state.form > entry::READS {
                    let form = state.form;
                    warn!(
                        form,
                        "the log has events of a later release: what this one can't read is a gap"
                    );
                }
                return (ear, state);
            }
            Err(away) => *last = away,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Hears the log first and then learns its head, so that nothing is missed between the two.
async fn hear_and_join(server: &Arc<Server>, link: &Arc<Link>) -> Result<(Ear, LogState), Away> {
    let ear = Ear::open(server, link).await?;
    Ok((ear, server.join(link).await?))
}

/// The form that every node has to read, so that none takes what is asked for something else.
fn needed_form(append: &Append) -> u8 {
    // An earlier node would compare how a repeat came with nothing.
    let is_keyed_by_events = append.key.as_ref().is_some_and(|key| key.asked.raw.is_none());
    let of_receipt = if is_keyed_by_events { entry::RECEIPTS_OF_EVENTS } else { 1 };
    append.events.iter().map(entry::form).fold(of_receipt, u8::max)
}

impl RedisHistory {
    /// Says of what is bound to a session of this node that it is one of this node.
    fn name_holders(&self, append: &mut Append) {
        for envelope in append.events.iter_mut().filter_map(|event| event.envelope.as_mut()) {
            if let Some(holder) = envelope.holder().map(|held| ends::holder(self.server.node, held))
            {
                envelope.bind(&holder);
            }
        }
    }

    /// The other nodes of the log.
    pub fn nodes(&self) -> Nodes {
        Nodes { server: self.server.clone() }
    }
}

// A table: each word of the trait, and who does it here. Each history has its own.
impl History for RedisHistory {
    fn append(&self, mut append: Append) -> BoxFuture<'_, Result<Receipt, AppendError>> {
        Box::pin(async move {
            self.name_holders(&mut append);
            self.server.link().map_err(|away| AppendError::Unavailable(away.to_string()))?;
            if let Some(node) = self.server.nodes.without(needed_form(&append)) {
                let reason = format!("node {node} is of a release that could not read it");
                return Err(AppendError::Unavailable(reason));
            }
            self.queue.append(append).await
        })
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, Problem>> {
        Box::pin(self.reader.page(read))
    }

    fn read_back(&self, read: ReadBack) -> BoxFuture<'_, Result<BackPage, Problem>> {
        Box::pin(self.reader.page_back(read))
    }

    fn position_before(&self, since: Since) -> BoxFuture<'_, Result<Moment, Problem>> {
        Box::pin(self.reader.position_before(since))
    }

    fn newest(&self, newest: Newest) -> BoxFuture<'_, Result<NewestPage, Problem>> {
        Box::pin(self.reader.newest(newest))
    }

    fn topics(&self, list: ListTopics) -> BoxFuture<'_, Result<Vec<TopicSummary>, Problem>> {
        Box::pin(self.reader.topics(list))
    }

    fn topic(&self, topic: Topic) -> BoxFuture<'_, Result<TopicSummary, Problem>> {
        Box::pin(self.reader.topic(topic))
    }

    fn forget(&self, topic: Topic) -> BoxFuture<'_, Result<usize, Problem>> {
        Box::pin(sweeper::forget(&self.server, topic))
    }

    fn depart(&self, departures: Vec<Departure>) -> BoxFuture<'_, Result<(), Problem>> {
        Box::pin(self.ends.depart(departures))
    }

    fn due(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Ending>, Problem>> {
        Box::pin(self.ends.due(limit))
    }

    fn head(&self) -> Cursor {
        self.server.head()
    }

    fn has_told_all(&self) -> Option<BoxFuture<'_, bool>> {
        Some(Box::pin(self.assurance.is_given()))
    }

    fn trouble(&self) -> Option<String> {
        let away = self.server.link().err().map(|away| away.to_string());
        away.or_else(|| self.server.misgiving()).or_else(|| probe::trouble(&self.server))
    }

    fn stock(&self) -> Stock {
        let redis = Kept {
            bytes: LOG.redis_bytes.get() as u64,
            limit: self.redis_bytes,
            ..Kept::default()
        };
        let pending_bytes = self.queue.pending_bytes();
        Stock { redis: Some(redis), pending_bytes, ..Stock::default() }
    }

    fn sweep(&self) {
        self.due.notify_one();
    }

    fn stop(&self) {
        self.queue.stop();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            error!("the thread of Redis has panicked");
        }
    }
}

impl Drop for RedisHistory {
    fn drop(&mut self) {
        self.stop();
    }
}
