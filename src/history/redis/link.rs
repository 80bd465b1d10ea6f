//! The connections of a node to Redis: made, checked, and replaced when they fail.
//!
//! A link is the connections to one run of one server, so that what a script is told of the server is
//! true of the one that runs it. One is for what must not wait, one for reading. Nothing is sent twice:
//! who uses a link that fails reports it, and hears of the next one here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisResult, ScriptInvocation, cmd};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use super::away::{Away, away};
use super::connection::Connection;
use super::epochs::Epochs;
use super::keys::Keys;
use super::locator::Locator;
use super::log_state::LogState;
use super::needs;
use super::neighbours::Neighbours;
use super::reads::Reads;
use crate::config;
use crate::metrics::LOG;
use crate::model::{Cursor, LogName};
use crate::panics::lock;

/// How long a connection may take to stand.
pub(super) const CONNECT: Duration = Duration::from_secs(1);

/// How long Redis may take to answer: longer than a publisher waits, for a batch of the most events, which one script
/// stores, keeps it busy for a third of a second, and for a multiple of that on a busy machine.
const ANSWER: Duration = Duration::from_secs(2);

/// How long replicas may take to have a publish.
const REPLICAS: Duration = Duration::from_millis(500);

/// The pauses between attempts to connect.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(500)];

/// The connections to one run of one server.
pub(super) struct Link {
    /// That server.
    pub(super) client: Client,
    /// For scripts, probes and whatever else must not wait behind a long read.
    pub(super) commands: Connection,
    /// For publishing: another one where publishes wait for replicas, which holds up all behind them.
    pub(super) publishes: Connection,
    /// For reading.
    pub(super) reads: Connection,
    /// The server's run id.
    pub(super) run: String,
    /// Its replication id, which is another one each time that it was a replica and is none any more.
    replication: String,
    /// Whether a script was told of that.
    is_told: AtomicBool,
}

/// Which server it is.
pub(super) struct Identity {
    run: String,
    replication: String,
}

/// The Redis of a log, as one node uses it.
pub(super) struct Server {
    locator: Locator,
    pub(super) keys: Keys,
    epochs: Epochs,
    /// How many replicas a publish waits for.
    pub(super) wait_replicas: usize,
    /// The name of this node, different at each start.
    pub(super) node: LogName,
    /// The nodes that hear each other.
    pub(super) nodes: Neighbours,
    link: watch::Sender<Option<Arc<Link>>>,
    lost: Notify,
    reason: Mutex<String>,
    policy: Mutex<Option<String>>,
    /// Why the log can't be heard, where it was tried and failed.
    deaf: Mutex<Option<Away>>,
    /// The highest place that this node has acknowledged or seen.
    presented: Mutex<Option<Cursor>>,
}

impl Link {
    /// Whether a script was told which server it is, over this link.
    pub(super) fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Acquire)
    }
}

impl Server {
    /// A server that is not connected to yet.
    pub(super) fn new(redis: &config::Redis) -> RedisResult<Self> {
        let (node, locator) = (LogName::random(), Locator::new(redis)?);
        let database = locator.database();
        Ok(Self {
            locator,
            keys: Keys::new(&redis.prefix, database),
            epochs: Epochs::default(),
            wait_replicas: redis.wait_replicas,
            node,
            nodes: Neighbours::new(node, database),
            link: watch::Sender::new(None),
            lost: Notify::new(),
            reason: Mutex::new("not connected yet".to_owned()),
            policy: Mutex::default(),
            deaf: Mutex::default(),
            presented: Mutex::default(),
        })
    }

    /// The link that stands now.
    pub(super) fn link(&self) -> Result<Arc<Link>, Away> {
        self.link.borrow().clone().ok_or_else(|| Away(lock(&self.reason).clone()))
    }

    /// Waits for a link.
    pub(super) async fn linked(&self) -> Option<Arc<Link>> {
        let mut links = self.link.subscribe();
        links.wait_for(Option::is_some).await.ok().and_then(|link| link.clone())
    }

    /// Waits for a link to another run of the server.
    pub(super) async fn moved_from(&self, run: &str) {
        let mut links = self.link.subscribe();
        let is_other = |link: &Option<Arc<Link>>| link.as_ref().is_some_and(|link| link.run != run);
        _ = links.wait_for(is_other).await;
    }

    /// Gives a link up that has failed.
    pub(super) fn give_up(&self, link: &Arc<Link>, reason: &str) {
        let gone = self.link.send_if_modified(|now| {
            let is_same = now.as_ref().is_some_and(|now| Arc::ptr_eq(now, link));
            if is_same {
                *now = None;
            }
            is_same
        });
        if gone {
            warn!(reason, "Redis is away");
            reason.clone_into(&mut lock(&self.reason));
            self.lost.notify_one();
        }
    }

    /// Connects, for good and for ever.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            if self.link().is_ok() {
                self.lost.notified().await;
                continue;
            }
            match self.connect().await {
                Ok(link) => {
                    info!(run = %link.run, "Redis is there");
                    failures = 0;
                    self.link.send_replace(Some(Arc::new(link)));
                }
                Err(Away(reason)) => {
                    *lock(&self.reason) = reason;
                    sleep(PAUSES[failures.min(PAUSES.len() - 1)]).await;
                    failures += 1;
                }
            }
        }
    }

    async fn connect(&self) -> Result<Link, Away> {
        let client = self.locator.find(&self.keys.log()).await?;
        let connect =
            async || Connection::open(&client, AsyncConnectionConfig::new(), CONNECT, ANSWER).await;
        let mut commands = connect().await.map_err(|error| away(&error))?;
        let Identity { run, replication } = self.look_at(&mut commands).await?;
        let reads = connect().await.map_err(|error| away(&error))?;
        let publishes = match self.wait_replicas {
            0 => commands.clone(),
            _ => {
                let mut publishes = connect().await.map_err(|error| away(&error))?;
                needs::ask_for_wait(&mut publishes).await?;
                publishes
            }
        };
        LOG.connections.inc();
        let is_told = AtomicBool::new(false);
        Ok(Link { client, commands, publishes, reads, run, replication, is_told })
    }

    /// Looks at the server behind a connection, and asks for all that is used of it; which it is, where it can be
    /// used.
    pub(super) async fn look_at(&self, connection: &mut Connection) -> Result<Identity, Away> {
        let info: String =
            cmd("INFO").query_async(connection).await.map_err(|error| away(&error))?;
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        *lock(&self.policy) = field("maxmemory_policy").map(str::to_owned);
        if field("role").is_some_and(|role| role != "master") {
            return Err(Away("the server is a replica".to_owned()));
        }
        let run = field("run_id").ok_or_else(|| Away("INFO has no run_id".to_owned()))?.to_owned();
        needs::ask_for(&needs::OF_A_LOG, &self.keys.of_all_kinds(), connection).await?;
        Ok(Identity { run, replication: field("master_replid").unwrap_or_default().to_owned() })
    }

    /// Why the server must not be relied on, though it answers.
    pub(super) fn misgiving(&self) -> Option<String> {
        let policy = lock(&self.policy).clone()?;
        let message = format!("maxmemory-policy of Redis is {policy}, and must be noeviction");
        (policy != "noeviction").then_some(message)
    }

    /// Notes what came of an attempt to hear the log.
    pub(super) fn note_hearing(&self, failed: Option<&Away>) {
        let before = std::mem::replace(&mut *lock(&self.deaf), failed.cloned());
        if let Some(reason) = failed.filter(|reason| before.as_ref() != Some(reason)) {
            warn!(reason = %reason.0, "the channel of the log can't be heard");
        }
    }

    /// Why the log can't be heard, where that is known.
    pub(super) fn deafness(&self) -> Option<Away> {
        lock(&self.deaf).clone()
    }

    /// What every script is told first.
    pub(super) fn prepare(&self, link: &Link, script: &mut ScriptInvocation<'_>) {
        for key in self.keys.of_every_script() {
            script.key(key);
        }
        let presented = *lock(&self.presented);
        let name = presented.map_or(String::new(), |cursor| cursor.log.to_string());
        let (epoch, sequence) = presented.map_or((0, 0), |cursor| (cursor.epoch, cursor.sequence));
        script.arg(&link.run).arg(name).arg(epoch).arg(sequence);
        script.arg(self.channel()).arg(LogName::random().to_string());
        script.arg(if link.is_told() { "" } else { &link.replication });
    }

    /// The channel on which the log is told: that of all databases where a node may hear no other.
    pub(super) fn channel(&self) -> String {
        match self.nodes.has_earlier() {
            true => self.keys.channel_of_all(),
            false => self.keys.channel(),
        }
    }

    /// Asks over the link for commands, and gives it up where it fails.
    pub(super) async fn invoke<T: FromRedisValue>(
        &self,
        link: &Arc<Link>,
        script: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        let answer = script.invoke_async(&mut link.commands.clone()).await;
        link.is_told.fetch_or(answer.is_ok(), Ordering::Release);
        self.judge(link, answer)
    }

    /// Asks over the link for publishes, and gives it up where it fails.
    pub(super) async fn publish<T: FromRedisValue>(
        &self,
        link: &Arc<Link>,
        script: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        let begun = Instant::now();
        let answer = script.invoke_async(&mut link.publishes.clone()).await;
        LOG.command.observe(begun.elapsed());
        LOG.called(answer.is_ok());
        link.is_told.fetch_or(answer.is_ok(), Ordering::Release);
        self.judge(link, answer)
    }

    /// Waits until as many replicas as configured have what was published over the link.
    pub(super) async fn wait(&self, link: &Arc<Link>) -> Result<(), Away> {
        if self.wait_replicas == 0 {
            return Ok(());
        }
        let mut wait = cmd("WAIT");
        wait.arg(self.wait_replicas).arg(REPLICAS.as_millis() as u64);
        let answer = wait.query_async::<usize>(&mut link.publishes.clone()).await;
        match self.judge(link, answer).map_err(|error| away(&error))? {
            count if count >= self.wait_replicas => Ok(()),
            count => Err(Away(format!("only {count} replicas have it"))),
        }
    }

    /// Gives a link up where an answer shows that it, or its server, can't be used.
    pub(super) fn judge<T>(&self, link: &Arc<Link>, answer: RedisResult<T>) -> RedisResult<T> {
        if let Err(error) = &answer
            && (error.code().is_none() || IS_ELSEWHERE.contains(&error.code().unwrap_or_default()))
        {
            self.give_up(link, &away(error).0);
        }
        answer
    }

    /// Notes a place of the epoch that this node presents.
    pub(super) fn saw(&self, cursor: Cursor) {
        let mut presented = lock(&self.presented);
        match *presented {
            Some(before) if before.at(0) == cursor.at(0) => *presented = Some(before.max(cursor)),
            Some(_) => {}
            None => *presented = Some(cursor),
        }
    }

    /// Presents places of another epoch from here on; what was seen of the last one has been told.
    pub(super) fn adopt(&self, head: Cursor) {
        let mut presented = lock(&self.presented);
        match *presented {
            Some(before) if before.at(0) == head.at(0) => *presented = Some(before.max(head)),
            Some(_) | None => *presented = Some(head),
        }
    }

    /// The highest place that this node has acknowledged or seen.
    pub(super) fn presented(&self) -> Option<Cursor> {
        *lock(&self.presented)
    }

    /// The newest place that this node knows of.
    pub(super) fn head(&self) -> Cursor {
        self.presented().unwrap_or(Cursor { log: self.node, epoch: 0, sequence: 0 })
    }

    /// Presents what was seen, and learns how the log stands.
    pub(super) async fn join(&self, link: &Arc<Link>) -> RedisResult<LogState> {
        let script = &super::scripts::JOIN;
        let mut invocation = script.prepare_invoke();
        self.prepare(link, &mut invocation);
        let state: LogState = self.invoke(link, &invocation).await?;
        self.adopt(state.head);
        let completed = self.epochs.complete(state, &mut link.reads.clone(), &self.keys).await;
        self.judge(link, completed)
    }

    /// Reads over a link.
    pub(super) fn reads(&self, link: &Link) -> Reads<'_> {
        let Self { keys, epochs, .. } = self;
        Reads { connection: link.reads.clone(), keys, epochs }
    }
}

/// Answers after which another server must be looked for.
const IS_ELSEWHERE: [&str; 6] =
    ["READONLY", "MASTERDOWN", "LOADING", "NOAUTH", "CLUSTERDOWN", "MOVED"];
