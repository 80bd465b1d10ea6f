//! A WebSocket client that reads frames of JSON, and of CBOR where it asked for that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
};

use super::{PATIENCE, TestServer};

/// One connected client.
pub struct WsClient {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub session: String,
    waiting: VecDeque<Value>,
}

impl WsClient {
    /// Connects to `/v1/ws` with a query such as `?topic=a` and reads the welcome.
    pub async fn connect(server: &TestServer, query: &str) -> Self {
        Self::connect_with(server, query, &[]).await.expect("the connection opens")
    }

    /// Connects with request headers.
    pub async fn connect_with(
        server: &TestServer,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Error> {
        let scheme = if server.tls.is_some() { "wss" } else { "ws" };
        let url = format!("{scheme}://{}/v1/ws{query}", server.addr);
        let connector = server.tls.clone().map(|tls| Connector::Rustls(Arc::new(tls)));
        Self::open(url, headers, connector).await
    }

    /// Connects to a broker at an address, and waits until the topics of the query are live.
    pub async fn live_at(address: &str, query: &str) -> Self {
        let mut client = Self::at(address, query).await;
        client.until("live").await;
        client
    }

    /// Connects to a broker at an address.
    pub async fn at(address: &str, query: &str) -> Self {
        let url = format!("ws://{address}/v1/ws{query}");
        Self::open(url, &[], None).await.expect("the connection opens")
    }

    async fn open(
        url: String,
        headers: &[(&'static str, &str)],
        connector: Option<Connector>,
    ) -> Result<Self, Error> {
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a header value");
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        let (socket, _) = connect_async_tls_with_config(request, None, false, connector).await?;
        let mut client = Self { socket, session: String::new(), waiting: VecDeque::new() };
        let welcome = client.next().await;
        assert_eq!(welcome["op"], "welcome", "{welcome}");
        client.session = welcome["session"].as_str().expect("a session id").to_owned();
        Ok(client)
    }

    /// Connects and waits until the topics of the query are live.
    pub async fn live(server: &TestServer, query: &str) -> Self {
        let mut client = Self::connect(server, query).await;
        client.until("live").await;
        client
    }

    pub async fn send(&mut self, frame: Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends a frame that may come too late.
    pub async fn try_send(&mut self, frame: &Value) -> Result<(), Error> {
        self.socket.send(Message::text(frame.to_string())).await
    }

    /// Sends several frames in one write.
    pub async fn send_together(&mut self, frames: impl IntoIterator<Item = Value>) {
        for frame in frames {
            let fed = self.socket.feed(Message::text(frame.to_string())).await;
            fed.expect("the frame is taken");
        }
        self.socket.flush().await.expect("the frames are sent");
    }

    pub async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("the frame is sent");
    }

    /// The next frame, whatever it is.
    pub async fn next(&mut self) -> Value {
        if let Some(frame) = self.waiting.pop_front() {
            return frame;
        }
        loop {
            match self.message().await {
                Ok(Message::Text(text)) => return serde_json::from_str(&text).expect("JSON"),
                Ok(Message::Binary(bytes)) => {
                    return ciborium::from_reader(&bytes[..]).expect("CBOR");
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("no frame but {other:?}"),
            }
        }
    }

    /// The next WebSocket message, whatever it is.
    pub async fn message(&mut self) -> Result<Message, Error> {
        let message = timeout(PATIENCE, self.socket.next()).await;
        message.expect("a message comes in time").unwrap_or(Err(Error::ConnectionClosed))
    }

    /// Reads until a frame with this `op` and returns it.
    pub async fn until(&mut self, op: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["op"] == op {
                return frame;
            }
            assert_ne!(frame["op"], "bye", "waiting for {op}: {frame}");
        }
    }

    /// The next `count` events.
    pub async fn events(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            events.push(self.until("event").await);
        }
        events
    }

    /// Sends a request with a `ref` and returns what answers it, an `ack` or an `error`.
    pub async fn ask(&mut self, reference: u64, mut request: Value) -> Value {
        request["ref"] = json!(reference);
        self.send(request).await;
        let mut before = VecDeque::new();
        loop {
            let frame = self.next().await;
            if frame["ref"] == json!(reference) && frame["op"] != "live" {
                before.append(&mut self.waiting);
                self.waiting = before;
                return frame;
            }
            before.push_back(frame);
        }
    }

    /// Reads to the end and returns the good-bye and the close code.
    pub async fn closed(&mut self) -> (Option<Value>, Option<u16>) {
        let mut bye = None;
        loop {
            match self.message().await {
                Ok(Message::Text(text)) => {
                    let frame: Value = serde_json::from_str(&text).expect("JSON");
                    if frame["op"] == "bye" {
                        bye = Some(frame);
                    }
                }
                Ok(Message::Close(frame)) => return (bye, frame.map(|frame| frame.code.into())),
                Ok(_) => {}
                Err(_) => return (bye, None),
            }
        }
    }

    /// Whether nothing comes for a moment.
    pub async fn is_quiet(&mut self, for_millis: u64) -> bool {
        let moment = Duration::from_millis(for_millis);
        self.waiting.is_empty() && timeout(moment, self.socket.next()).await.is_err()
    }
}

/// The gaps and the data that come up to `live` after a cursor.
pub async fn resumed(server: &TestServer, topics: &str, since: &str) -> (usize, Vec<Value>) {
    let query = format!("?{topics}&since={since}");
    let mut client = WsClient::connect(server, &query).await;
    let (mut gaps, mut data) = (0, Vec::new());
    loop {
        let frame = client.next().await;
        match frame["op"].as_str() {
            Some("gap") => gaps += 1,
            Some("event") => data.push(frame["data"].clone()),
            Some("live") => return (gaps, data),
            Some("ack") => {}
            _ => panic!("unexpected: {frame}"),
        }
    }
}
