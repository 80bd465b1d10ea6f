//! Several Redis servers that stand in for each other: with sentinels, or as a cluster.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use redis::cmd;

use super::process::free_port;
use super::redis::Redis;

/// The name under which the sentinels know the master.
const NAME: &str = "fanfare-test";

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < give_up, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a server is a replica that has what its master has.
fn is_in_step(server: &Redis) -> bool {
    let info = server.ask::<String>(&["INFO", "replication"]);
    info.is_ok_and(|info| info.contains("master_link_status:up"))
}

/// A master, a replica, and three sentinels.
pub struct Guarded {
    pub servers: Vec<Redis>,
    sentinels: Vec<Redis>,
}

impl Guarded {
    pub fn start() -> Self {
        let master = Redis::start();
        let replica = Redis::replica_of(master.port);
        let sentinels = (0..3).map(|_| Redis::sentinel(NAME, master.port)).collect();
        let guarded = Self { servers: vec![master, replica], sentinels };
        wait_until("the sentinels know each other and the replica", || {
            guarded.sentinels.iter().all(|sentinel| {
                let known: Vec<Vec<String>> = sentinel.run(&["SENTINEL", "sentinels", NAME]);
                let replicas: Vec<Vec<String>> = sentinel.run(&["SENTINEL", "replicas", NAME]);
                (known.len(), replicas.len()) == (2, 1)
            })
        });
        guarded
    }

    /// What tells a node of them.
    pub fn settings(&self) -> Vec<String> {
        let urls: Vec<_> = self.sentinels.iter().map(Redis::url).collect();
        vec![format!("redis.url=redis://{NAME}"), format!("redis.sentinels={}", urls.join(","))]
    }

    /// Which server the sentinels take for the master.
    pub fn master(&self) -> usize {
        let (_, port): (String, u16) =
            self.sentinels[0].run(&["SENTINEL", "get-master-addr-by-name", NAME]);
        self.servers.iter().position(|server| server.port == port).expect("one of ours")
    }

    /// Starts a server again that was killed, and waits until it copies the master.
    pub fn rejoin(&mut self, server: usize) {
        self.servers[server].restart();
        wait_until("it is a replica again", || is_in_step(&self.servers[server]));
    }

    /// Waits until all sentinels know of another master.
    pub fn wait_for_another(&self, old: usize) {
        let port = self.servers[old].port;
        wait_until("another master is there", || {
            self.sentinels.iter().all(|sentinel| {
                let ask = ["SENTINEL", "get-master-addr-by-name", NAME];
                sentinel.run::<(String, u16)>(&ask).1 != port
            })
        });
    }
}

/// A Redis Cluster of three masters with a replica each.
pub struct RedisCluster {
    pub servers: Vec<Redis>,
}

impl RedisCluster {
    pub fn start() -> Self {
        let servers: Vec<_> = (0..6)
            .map(|_| {
                let bus = free_port().to_string();
                let node = ["--cluster-enabled", "yes", "--cluster-port", &bus];
                let times = ["--cluster-node-timeout", "1000", "--cluster-replica-validity-factor"];
                Redis::with(&[&node[..], &times[..], &["0", "--appendonly", "no"]].concat())
            })
            .collect();
        let created = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(servers.iter().map(|server| format!("127.0.0.1:{}", server.port)))
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .stdout(Stdio::null())
            .status();
        assert!(created.expect("redis-cli is installed").success());
        let cluster = Self { servers };
        wait_until("every master has a replica that is there", || {
            cluster.servers.iter().all(|server| {
                let info: String = server.run(&["INFO", "replication"]);
                info.contains("state=online") || info.contains("master_link_status:up")
            })
        });
        cluster
    }

    /// What tells a node of it: not the server of the log, which must be found.
    pub fn settings(&self) -> Vec<String> {
        let urls: Vec<_> = self.servers.iter().map(Redis::url).collect();
        vec![format!("redis.url={}", urls[0]), format!("redis.seeds={},{}", urls[1], urls[2])]
    }

    /// The server that has the slot of the log, as another one says.
    pub fn owner(&self, asked: usize) -> Option<usize> {
        let mut connection = self.servers[asked].connect();
        let slot: u64 = cmd("CLUSTER")
            .arg("KEYSLOT")
            .arg("{fanfare}:log")
            .query(&mut connection)
            .expect("a slot");
        let slots: Vec<Vec<redis::Value>> =
            cmd("CLUSTER").arg("SLOTS").query(&mut connection).expect("slots");
        let number = |value: &redis::Value| -> u64 {
            redis::from_redis_value(value.clone()).expect("a number")
        };
        let range =
            slots.iter().find(|range| (number(&range[0])..=number(&range[1])).contains(&slot));
        let master: Vec<redis::Value> =
            redis::from_redis_value(range?[2].clone()).expect("a server");
        let port = number(&master[1]) as u16;
        self.servers.iter().position(|server| server.port == port)
    }

    /// Starts a server again that was killed, and waits until it copies its master.
    pub fn rejoin(&mut self, server: usize) {
        self.servers[server].restart();
        wait_until("it is a replica again", || is_in_step(&self.servers[server]));
    }

    /// A server that is not this one.
    pub fn other_than(&self, server: usize) -> usize {
        (server + 1) % self.servers.len()
    }

    /// Waits until another server has the slot of the log.
    pub fn wait_for_another(&self, old: usize) {
        wait_until("another server has the log", || {
            self.owner(self.other_than(old)).is_some_and(|owner| owner != old)
        });
    }
}
