//! A client that speaks Parrot over WebSocket.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::{PATIENCE, TestServer};

/// One connected client.
pub struct ParrotClient {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub name: Value,
    waiting: VecDeque<Value>,
    /// The code that the broker closed with, once it has.
    pub closed: Option<u16>,
}

impl ParrotClient {
    /// Connects and says nothing.
    pub async fn connect(server: &TestServer, flock: &str, query: &str) -> Self {
        let url = format!("ws://{}/parrot/{flock}{query}", server.addr);
        let (socket, _) = connect_async(url).await.expect("the connection opens");
        Self { socket, name: Value::Null, waiting: VecDeque::new(), closed: None }
    }

    /// Connects, says hello and waits until the topic of its flock is live.
    pub async fn greeted(server: &TestServer, flock: &str, query: &str) -> Self {
        let mut client = Self::connect(server, flock, query).await;
        client.send(&[json!({ "n": 1, "hello": {} })]).await;
        let hello = client.next().await.expect("an answer");
        assert_eq!(hello["n"], 1, "{hello}");
        client.name = hello["hello"].clone();
        client.until("follows").await;
        client
    }

    /// Says some things at once.
    pub async fn send(&mut self, commands: &[Value]) {
        let lines: Vec<_> = commands.iter().map(Value::to_string).collect();
        self.socket.send(Message::text(lines.join("\n"))).await.expect("it is sent");
    }

    /// The next message; nothing once the broker has hung up. Pings are answered.
    pub async fn next(&mut self) -> Option<Value> {
        if let Some(message) = self.waiting.pop_front() {
            return Some(message);
        }
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("something comes in time")? {
                Ok(Message::Text(text)) => {
                    let message: Value = serde_json::from_str(&text).expect("JSON");
                    if message["ping"] != true {
                        return Some(message);
                    }
                    self.send(&[json!({ "pong": true })]).await;
                }
                Ok(Message::Close(frame)) => self.closed = frame.map(|frame| frame.code.into()),
                Ok(Message::Ping(_)) => panic!("parrots are pinged by messages"),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// The next message that has this member.
    pub async fn until(&mut self, member: &str) -> Value {
        loop {
            let message = self.next().await.unwrap_or_else(|| panic!("never: {member}"));
            if message.get(member).is_some() {
                return message;
            }
        }
    }
}

/// Says something over a request beside the connection, at some node; returns the status.
pub async fn say_back(node: &TestServer, name: &Value, commands: &[Value]) -> u16 {
    let lines: Vec<_> = commands.iter().map(Value::to_string).collect();
    let letter =
        json!({ "session": name["session"], "secret": name["secret"], "say": lines.join("\n") });
    let answer = node.post("/parrot/say").json(&letter).send().await.expect("an answer");
    answer.status().as_u16()
}
