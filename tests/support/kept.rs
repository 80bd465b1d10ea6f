//! A broker on each history.

use fanfare::config::{Config, Redis as RedisConfig, Storage};
use tempfile::TempDir;

use super::TestServer;
use super::redis::Redis;

/// A broker, and what it keeps its events in.
pub struct Kept {
    pub server: TestServer,
    _directory: Option<TempDir>,
    _redis: Option<Redis>,
}

/// A broker on each history.
pub fn on_every_history(change: impl Fn(&mut Config)) -> Vec<Kept> {
    let directory = tempfile::tempdir().expect("a directory");
    let redis = Redis::start();
    let memory = TestServer::with(&change);
    let disk = TestServer::durable(directory.path(), &change);
    let node = behind(&redis, &change);
    let kept = |server, _directory, _redis| Kept { server, _directory, _redis };
    vec![kept(memory, None, None), kept(disk, Some(directory), None), kept(node, None, Some(redis))]
}

/// A node behind a Redis.
pub fn behind(redis: &Redis, change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.rules.default.storage = Storage::Redis;
        config.redis = Some(RedisConfig::at(&redis.url()));
        change(config);
    })
}
