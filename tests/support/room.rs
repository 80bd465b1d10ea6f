//! Nodes of a cluster that tell who is in a room, and what operators ask them.

use fanfare::config::{Redis as RedisConfig, Rule, Storage};
use fanfare::model::Pattern;
use fanfare::protocol::{PROTOCOLS, Protocols};
use reqwest::StatusCode;
use serde_json::Value;

use super::redis::Redis;
use super::ws::WsClient;
use super::{API_KEY, TestServer, close, expect_status, token};

/// A node with credentials whose log is in a database, and which tells who is in a `room.>`.
pub fn node(redis: &Redis, database: u8) -> TestServer {
    node_speaking(PROTOCOLS, redis, database)
}

/// The same, for clients of these protocols.
pub fn node_speaking(protocols: Protocols, redis: &Redis, database: u8) -> TestServer {
    TestServer::speaking(protocols, |config| {
        close(config);
        config.redis = Some(RedisConfig::at(&format!("{}/{database}", redis.url())));
        config.rules.default.storage = Storage::Redis;
        let pattern = Pattern::parse("room.>").expect("a pattern");
        config.rules.listed =
            vec![Rule { pattern, presence: true, ..config.rules.default.clone() }];
    })
}

/// What a node answers an operator.
pub async fn ask(node: &TestServer, path: &str) -> Value {
    let answer = node.get(path).bearer_auth(API_KEY).send().await.expect("an answer");
    expect_status(answer, StatusCode::OK).await
}

/// A client of `user` on a node, subscribed to `query`.
pub async fn client(node: &TestServer, user: &str, query: &str) -> WsClient {
    let token = token(user, &[">"], &[], 600);
    WsClient::live(node, &format!("{query}&access_token={token}")).await
}
