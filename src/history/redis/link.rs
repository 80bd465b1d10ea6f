//! The connections of a node to Redis: made, checked, and replaced when they fail.
//!
//! A link is the connections to one run of one server, so that what a script is told of the server is
//! true of the one that runs it. One is for what must not wait, one for reading. Nothing is sent twice:
//! who uses a link that fails reports it, and hears of the next one here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, IntoConnectionInfo, ProtocolVersion, RedisError,
    RedisResult, ScriptInvocation, cmd,
};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::keys::Keys;
use super::state::State;
use crate::model::{Cursor, LogName};

/// How long a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(1);

/// How long a script may take to answer: less than a publisher waits.
const ANSWER: Duration = Duration::from_millis(800);

/// How long a read may take to answer.
const READ: Duration = Duration::from_secs(2);

/// The pauses between attempts to connect.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(500)];

/// The connections to one run of one server.
pub(super) struct Link {
    /// For scripts, probes and whatever else must not wait behind a long read.
    pub(super) commands: MultiplexedConnection,
    /// For reading.
    pub(super) reads: MultiplexedConnection,
    /// The server's run id.
    run: String,
}

/// Redis can't be used at the moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Redis is away: {0}")]
pub(super) struct Away(pub(super) String);

/// The Redis of a log, as one node uses it.
pub(super) struct Server {
    pub(super) client: Client,
    pub(super) keys: Keys,
    /// The name of this node, different at each start.
    pub(super) node: LogName,
    link: watch::Sender<Option<Arc<Link>>>,
    lost: Notify,
    reason: Mutex<String>,
    policy: Mutex<Option<String>>,
    /// The highest place that this node has acknowledged or seen.
    presented: Mutex<Option<Cursor>>,
}

impl Server {
    /// A server that is not connected to yet.
    pub(super) fn new(url: &str, prefix: &str) -> RedisResult<Self> {
        // Done already where it fails.
        _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let info = url.into_connection_info()?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
        Ok(Self {
            client: Client::open(info)?,
            keys: Keys::new(prefix),
            node: LogName::random(),
            link: watch::Sender::new(None),
            lost: Notify::new(),
            reason: Mutex::new("not connected yet".to_owned()),
            policy: Mutex::default(),
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
        let connect = async |answer| {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT))
                .set_response_timeout(Some(answer));
            self.client.get_multiplexed_async_connection_with_config(&config).await
        };
        let mut commands = connect(ANSWER).await.map_err(|error| away(&error))?;
        let run = self.look_at(&mut commands).await?;
        let reads = connect(READ).await.map_err(|error| away(&error))?;
        Ok(Link { commands, reads, run })
    }

    /// Looks at the server behind a connection; its run id, where it can be used.
    pub(super) async fn look_at(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<String, Away> {
        let info: String =
            cmd("INFO").query_async(connection).await.map_err(|error| away(&error))?;
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        *lock(&self.policy) = field("maxmemory_policy").map(str::to_owned);
        if field("role").is_some_and(|role| role != "master") {
            return Err(Away("the server is a replica".to_owned()));
        }
        field("run_id").map(str::to_owned).ok_or_else(|| Away("INFO has no run_id".to_owned()))
    }

    /// Why the server must not be relied on, though it answers.
    pub(super) fn misgiving(&self) -> Option<String> {
        let policy = lock(&self.policy).clone()?;
        let message = format!("maxmemory-policy of Redis is {policy}, and must be noeviction");
        (policy != "noeviction").then_some(message)
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
        script.arg(self.keys.channel()).arg(LogName::random().to_string());
    }

    /// Asks over the link for commands, and gives it up where it fails.
    pub(super) async fn invoke<T: FromRedisValue>(
        &self,
        link: &Arc<Link>,
        script: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        let answer = script.invoke_async(&mut link.commands.clone()).await;
        self.judge(link, answer)
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
    pub(super) async fn join(&self, link: &Arc<Link>) -> RedisResult<State> {
        let script = &super::scripts::JOIN;
        let mut invocation = script.prepare_invoke();
        self.prepare(link, &mut invocation);
        let state: State = self.invoke(link, &invocation).await?;
        self.adopt(state.head);
        Ok(state)
    }

    /// Hears a channel of the log and one of this node's own.
    pub(super) async fn subscribe(&self) -> Result<redis::aio::PubSub, Away> {
        let subscribing = async {
            let mut heard = self.client.get_async_pubsub().await?;
            heard.subscribe(&[self.keys.channel(), self.probe()]).await?;
            Ok(heard)
        };
        match timeout(CONNECT, subscribing).await {
            Ok(heard) => heard.map_err(|error: RedisError| away(&error)),
            Err(_) => Err(Away("it does not answer".to_owned())),
        }
    }

    /// The channel on which this node hears itself.
    pub(super) fn probe(&self) -> String {
        self.keys.probe(&self.node.to_string())
    }
}

/// Answers after which another server must be looked for.
const IS_ELSEWHERE: [&str; 5] = ["READONLY", "MASTERDOWN", "LOADING", "NOAUTH", "CLUSTERDOWN"];

/// Why Redis can't be used, without the texts of a request.
pub(super) fn away(error: &RedisError) -> Away {
    Away(match error.code() {
        Some(code) => format!("it says {code}"),
        None if error.is_timeout() => "it does not answer".to_owned(),
        None => error.category().to_owned(),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
