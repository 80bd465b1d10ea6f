//! Where the server is that holds the log.
//!
//! The log lives in one slot, so behind Sentinel and on a Redis Cluster too it is one server at a time. It is
//! looked for anew before each connection, and what is found is checked to be a master; so a failover is a
//! lost connection like any other.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, RedisResult, TlsCertificates, cmd,
};

use super::away::{Away, away};
use super::connection::Connection;
use crate::config;
use crate::panics::lock;
use crate::trust;

/// How long one of those who know may take to answer.
const ANSWER: Duration = Duration::from_millis(500);

/// The most addresses of a cluster that are remembered.
const REMEMBERED: usize = 32;

/// A range of slots with its servers, the master first: `CLUSTER SLOTS`.
type Slots = (u64, u64, Vec<Vec<redis::Value>>);

/// How the server of the log is found.
pub struct Locator {
    /// How to speak to it: where it is on its own, and as whom.
    info: ConnectionInfo,
    /// Who knows where it is; without them it is where `info` says, or a cluster knows.
    sentinels: Vec<ConnectionInfo>,
    /// Servers of the cluster, where it is one.
    seeds: Mutex<Vec<ConnectionAddr>>,
    /// Who is asked first the next time.
    turn: AtomicUsize,
}

impl Locator {
    /// The place that the configuration tells of.
    pub fn new(redis: &config::Redis) -> RedisResult<Self> {
        let info = info(&redis.url.0)?;
        let sentinels = redis.sentinels.iter().map(|url| self::info(&url.0));
        let seeds = redis.seeds.iter().map(|url| Ok(self::info(&url.0)?.addr().clone()));
        let seeds = [Ok(info.addr().clone())].into_iter().chain(seeds);
        Ok(Self {
            sentinels: sentinels.collect::<RedisResult<_>>()?,
            seeds: Mutex::new(seeds.collect::<RedisResult<_>>()?),
            turn: AtomicUsize::new(0),
            info,
        })
    }

    /// The number of the database, which is 0 where the address names none.
    pub fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }

    /// The server that holds the log, whose slot is that of `key`.
    pub async fn find(&self, key: &str) -> Result<Client, Away> {
        let address = match self.sentinels.is_empty() {
            true => self.in_cluster(key).await?,
            false => self.by_sentinels().await?,
        };
        let client = Client::open(self.info.clone().set_addr(address));
        client.map_err(|error| away(&error))
    }

    /// What the sentinels say of the master whose name stands where a host would.
    async fn by_sentinels(&self) -> Result<ConnectionAddr, Away> {
        let name = match self.info.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
            _ => return Err(Away("redis.url has no name of a master".to_owned())),
        };
        let mut reason = Away("no sentinel is known".to_owned());
        for sentinel in self.in_turn(&self.sentinels) {
            let asking = async {
                let mut connection = connect(sentinel.clone()).await?;
                let mut ask = cmd("SENTINEL");
                ask.arg("get-master-addr-by-name").arg(&name);
                ask.query_async::<Option<(String, u16)>>(&mut connection).await
            };
            match asking.await {
                Ok(Some((host, port))) => return Ok(moved(self.info.addr(), host, port)),
                Ok(None) => reason = Away(format!("no sentinel knows {name}")),
                Err(error) => reason = away(&error),
            }
        }
        Err(reason)
    }

    /// Where the slot is, as some server of the cluster says; the server itself where it is on its own.
    async fn in_cluster(&self, key: &str) -> Result<ConnectionAddr, Away> {
        let seeds = lock(&self.seeds).clone();
        let mut reason = Away("no server is known".to_owned());
        for seed in self.in_turn(&seeds) {
            match self.ask(&seed, key).await {
                Ok(Some(address)) => return Ok(address),
                Ok(None) => reason = Away("nobody has the slot of the log".to_owned()),
                Err(error) => reason = away(&error),
            }
        }
        Err(reason)
    }

    async fn ask(&self, seed: &ConnectionAddr, key: &str) -> RedisResult<Option<ConnectionAddr>> {
        let mut connection = connect(self.info.clone().set_addr(seed.clone())).await?;
        let info: String = cmd("INFO").arg("cluster").query_async(&mut connection).await?;
        if !info.lines().any(|line| line.trim() == "cluster_enabled:1") {
            return Ok(Some(seed.clone()));
        }
        let slot: u64 = cmd("CLUSTER").arg("KEYSLOT").arg(key).query_async(&mut connection).await?;
        let slots: Vec<redis::Value> =
            cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
        let slots: Vec<Slots> = slots.into_iter().filter_map(range).collect();
        let servers = |range: &Slots| -> Vec<_> {
            range.2.iter().filter_map(|server| address(seed, server)).collect()
        };
        self.remember(slots.iter().flat_map(servers));
        let range = slots.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
        Ok(range.and_then(|range| servers(range).into_iter().next()))
    }

    fn remember(&self, servers: impl Iterator<Item = ConnectionAddr>) {
        let mut seeds = lock(&self.seeds);
        for server in servers {
            if !seeds.contains(&server) && seeds.len() < REMEMBERED {
                seeds.push(server);
            }
        }
    }

    /// Those who know, another one first each time.
    fn in_turn<T: Clone>(&self, all: &[T]) -> Vec<T> {
        let mut all = all.to_vec();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % all.len().max(1);
        all.rotate_left(turn);
        all
    }
}

/// How to speak to the server of a URL.
fn info(url: &str) -> RedisResult<ConnectionInfo> {
    // Done already where it fails.
    _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let info = trusting(url.into_connection_info()?)?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let tcp = TcpSettings::default().set_nodelay(true);
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp))
}

/// The same, with the authorities that all our clients trust where TLS is spoken.
fn trusting(info: ConnectionInfo) -> RedisResult<ConnectionInfo> {
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        return Ok(info);
    }
    let roots = trust::roots_as_pem().map_err(std::io::Error::other)?;
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(roots) };
    let client = Client::build_with_tls(info, certificates)?;
    Ok(client.get_connection_info().clone())
}

async fn connect(info: ConnectionInfo) -> RedisResult<Connection> {
    Connection::open(&Client::open(info)?, AsyncConnectionConfig::new(), ANSWER, ANSWER).await
}

/// The same way to another host and port.
fn moved(addr: &ConnectionAddr, host: String, port: u16) -> ConnectionAddr {
    match addr.clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host, port),
    }
}

/// `first, last, server…` as `CLUSTER SLOTS` says it.
fn range(value: redis::Value) -> Option<Slots> {
    let parts: Vec<redis::Value> = redis::from_redis_value(value).ok()?;
    let mut parts = parts.into_iter();
    let mut number = || redis::from_redis_value(parts.next()?).ok();
    let (first, last) = (number()?, number()?);
    let servers = parts.filter_map(|server| redis::from_redis_value(server).ok());
    Some((first, last, servers.collect()))
}

/// `host, port, …`; a host that the server does not know is the one that was asked.
fn address(seed: &ConnectionAddr, server: &[redis::Value]) -> Option<ConnectionAddr> {
    let (host, port) = (server.first()?.clone(), server.get(1)?.clone());
    let host: Option<String> = redis::from_redis_value(host).ok()?;
    let port: u16 = redis::from_redis_value(port).ok()?;
    let asked = match seed {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => return None,
    };
    let host = host.filter(|host| !host.is_empty() && host != "?").unwrap_or(asked);
    Some(moved(seed, host, port))
}
