//! A client of HTTP/2, over TLS or without, with nothing between a test and its frames.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::poll_fn;
use futures_util::stream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::TestServer;
use super::sse::SseClient;
use super::tls::shake;

/// One connection.
pub struct Http2 {
    pub requests: SendRequest<Bytes>,
    origin: String,
}

/// A response with its whole body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

impl Http2 {
    pub async fn connect(server: &TestServer) -> Self {
        Self::with_window(server, 65_535).await
    }

    /// A connection on which each response may send so many bytes before more are asked for.
    pub async fn with_window(server: &TestServer, bytes: u32) -> Self {
        let mut tls = server.tls.clone().expect("TLS");
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(server.addr).await.expect("connected");
        let stream = shake(stream, tls).await.expect("a handshake");
        Self::over(stream, bytes, format!("https://{}", server.addr)).await
    }

    /// A connection without TLS, by prior knowledge.
    pub async fn in_the_clear(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connected");
        Self::over(stream, 65_535, format!("http://{address}")).await
    }

    async fn over<IO>(stream: IO, bytes: u32, origin: String) -> Self
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let handshake = Builder::new().initial_window_size(bytes).handshake(stream);
        let (requests, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        let requests = requests.ready().await.expect("a connection");
        Self { requests, origin }
    }

    /// Sends a request without waiting for its answer.
    pub fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> ResponseFuture {
        self.send(method, path, headers, Bytes::new())
    }

    /// Sends the head of a `POST` whose body is still to come.
    pub fn begin(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (ResponseFuture, SendStream<Bytes>) {
        self.head(Method::POST, path, headers, false)
    }

    fn head(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        is_all: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.uri(format!("{}{path}", self.origin)).body(());
        let request = request.expect("a request");
        self.requests.clone().send_request(request, is_all).expect("sent")
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> ResponseFuture {
        let (answer, mut stream) = self.head(method, path, headers, body.is_empty());
        if !body.is_empty() {
            // A request that is refused may not be read to its end.
            _ = stream.send_data(body, true);
        }
        answer
    }

    pub async fn get(&self, path: &str) -> Answer {
        whole(self.ask(Method::GET, path, &[])).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        whole(self.send(Method::POST, path, &headers, body.to_string().into())).await
    }

    /// Opens an event stream.
    pub async fn sse(&self, query: &str) -> SseClient {
        events(self.ask(Method::GET, &format!("/v1/sse{query}"), &[])).await
    }

    /// Opens the event stream that a body asks for.
    pub async fn sse_of(&self, body: &Value) -> SseClient {
        events(self.send(Method::POST, "/v1/sse", &[], body.to_string().into())).await
    }
}

/// The event stream of an answer.
async fn events(answer: ResponseFuture) -> SseClient {
    let response = answer.await.expect("an answer");
    assert_eq!(response.status(), 200);
    let body = response.into_body();
    SseClient::of(stream::unfold(body, |mut body| async { Some((chunk(&mut body).await?, body)) }))
}

/// The next bytes of a body; nothing at its end.
async fn chunk(body: &mut RecvStream) -> Option<Bytes> {
    let chunk = poll_fn(|cx| body.poll_data(cx)).await?.ok()?;
    body.flow_control().release_capacity(chunk.len()).expect("room");
    Some(chunk)
}

/// A response with its whole body.
pub async fn whole(answer: ResponseFuture) -> Answer {
    let (head, mut stream) = answer.await.expect("an answer").into_parts();
    let mut body = Vec::new();
    while let Some(bytes) = chunk(&mut stream).await {
        body.extend_from_slice(&bytes);
    }
    Answer { status: head.status.as_u16(), headers: head.headers, body: body.into() }
}
