//! A client that reads an event stream as a browser's `EventSource` does (WHATWG HTML, 9.2.6).

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::StatusCode;
use serde_json::Value;
use std::future::ready;
use std::pin::Pin;
use tokio::time::timeout;

use super::{PATIENCE, TestServer};

/// One open stream.
pub struct SseClient {
    bytes: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
    buffer: Vec<u8>,
    pub last_event_id: String,
    pub retry: Option<u64>,
    pub comments: usize,
    /// How often it was told of its place alone.
    pub cursors: usize,
}

/// One dispatched event.
#[derive(Debug, Clone, PartialEq)]
pub struct SseEvent {
    pub event: String,
    pub id: String,
    pub data: String,
}

impl SseEvent {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).expect("JSON")
    }
}

impl SseClient {
    /// Opens `/v1/sse` with a query, and waits until it is live.
    pub async fn live(server: &TestServer, query: &str) -> Self {
        let mut client = Self::connect(server, query, &[]).await;
        assert_eq!(client.next().await.expect("an event").event, "fanfare.live");
        client
    }

    pub async fn connect(server: &TestServer, query: &str, headers: &[(&str, &str)]) -> Self {
        let http = reqwest::Client::new();
        let mut request = http.get(server.url(&format!("/v1/sse{query}")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.header("accept", "text/event-stream");
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let whole = response.bytes_stream().take_while(|bytes| ready(bytes.is_ok()));
        Self::of(whole.filter_map(|bytes| ready(bytes.ok())))
    }

    /// Reads a stream of bytes.
    pub fn of(bytes: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self {
            bytes: Box::pin(bytes),
            buffer: Vec::new(),
            last_event_id: String::new(),
            retry: None,
            comments: 0,
            cursors: 0,
        }
    }

    /// The next event but for places, which come whenever they do; nothing once the stream has ended.
    pub async fn next(&mut self) -> Option<SseEvent> {
        loop {
            let event = self.any().await?;
            if event.event != "fanfare.cursor" {
                return Some(event);
            }
            assert_eq!(event.json()["cursor"], event.id);
            self.cursors += 1;
        }
    }

    /// The next event of any kind; nothing once the stream has ended. A block without data is none.
    pub async fn any(&mut self) -> Option<SseEvent> {
        let (mut event, mut data) = (String::new(), Vec::new());
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                if data.is_empty() {
                    event.clear();
                    continue;
                }
                let event = if event.is_empty() { "message".to_owned() } else { event };
                let id = self.last_event_id.clone();
                return Some(SseEvent { event, id, data: data.join("\n") });
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => self.comments += 1,
                "event" => event = value.to_owned(),
                "data" => data.push(value.to_owned()),
                "id" => self.last_event_id = value.to_owned(),
                "retry" => self.retry = value.parse().ok(),
                _ => {}
            }
        }
    }

    /// The next `count` events of any type.
    pub async fn events(&mut self, count: usize) -> Vec<SseEvent> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.next().await.expect("the stream goes on"));
        }
        events
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                return Some(String::from_utf8(line[..at].to_vec()).expect("UTF-8"));
            }
            let chunk = timeout(PATIENCE, self.bytes.next()).await.expect("bytes come in time");
            self.buffer.extend(chunk?);
        }
    }
}
