//! What a page makes of presence: who is in one topic, as it is told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use super::ws::WsClient;

/// Who is in one topic.
#[derive(Debug, Default)]
pub struct Company {
    /// What was told last of each session.
    pub members: BTreeMap<String, Value>,
    /// How often it had to begin anew.
    pub gaps: usize,
    /// What the last change was: its type, and how many sessions its user has with it.
    pub last: Option<(String, Option<u64>)>,
}

impl Company {
    /// Takes what is told on `room`; nobody comes who is there, and nobody goes who is not.
    pub fn hear(&mut self, room: &str, said: &Value) {
        if said["op"] == "gap" {
            assert_eq!(said["topics"], serde_json::json!([room]), "{said}");
            self.members.clear();
            self.gaps += 1;
        }
        if said["op"] != "event" || said["topic"] != room {
            return;
        }
        let session = said["data"]["session"].as_str().expect("a session").to_owned();
        let is_known = match said["type"].as_str().expect("a type") {
            "presence.joined" => self.members.insert(session, said["data"].clone()).is_none(),
            _ => self.members.remove(&session).is_some(),
        };
        assert!(is_known, "{said} is told of who is there, or not: {self:?}");
        if said["snapshot"] != true {
            let kind = said["type"].as_str().expect("a type").to_owned();
            self.last = Some((kind, said["data"]["user_sessions"].as_u64()));
        }
    }

    /// Listens until `is_so`.
    pub async fn listen(
        &mut self,
        room: &str,
        client: &mut WsClient,
        within: Duration,
        is_so: impl Fn(&Self) -> bool,
    ) {
        let listening = async {
            while !is_so(self) {
                let said = client.next().await;
                self.hear(room, &said);
            }
        };
        if timeout(within, listening).await.is_err() {
            panic!("it does not come to that: {self:?}");
        }
    }

    /// The users that are there, each as often as it has sessions.
    pub fn users(&self) -> Vec<&str> {
        let mut users: Vec<_> =
            self.members.values().map(|it| it["user"].as_str().unwrap_or_default()).collect();
        users.sort_unstable();
        users
    }
}
