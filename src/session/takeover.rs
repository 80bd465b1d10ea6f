//! From an upgrade request to a WebSocket conversation: the socket changes hands.
//!
//! actix-http hands an upgrade request over together with its connection, before any routing and
//! middleware. So what follows has the socket to itself: the buffers of HTTP are freed, and nothing
//! stands between an outbox and its socket. The stream may be bare TCP or TLS.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use actix_codec::{Framed, FramedParts};
use actix_http::body::{BodySize, to_bytes};
use actix_http::h1::{Codec, Message};
use actix_http::ws::{HandshakeError, handshake_response, verify_handshake};
use actix_http::{ConnectionType, Request, RequestHead, Response};
use actix_web::ResponseError;
use actix_web::http::header::{self, HeaderValue};
use bytes::{Bytes, BytesMut};
use futures_util::SinkExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::clock::within;
use crate::http::secure;
use crate::model::{Code, Problem};

/// A refused client is read from for so long at most, for cutting it off while it sends could
/// destroy the refusal on its way.
const LINGER: Duration = Duration::from_millis(200);

/// A connection whose client asked for an upgrade.
pub struct Upgrade<IO> {
    head: Request,
    framed: Framed<IO, Codec>,
}

/// A connection that speaks WebSocket from here on.
pub struct Upgraded<IO> {
    /// The socket.
    pub io: IO,
    /// What came behind the request.
    pub early: BytesMut,
    /// The answer to the handshake, still to be written: first words may leave together with it.
    pub answer: Bytes,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Upgrade<IO> {
    /// Takes over a connection at an upgrade request.
    pub fn new(head: Request, framed: Framed<IO, Codec>) -> Self {
        Self { head, framed }
    }

    /// The request.
    pub fn head(&self) -> &RequestHead {
        self.head.head()
    }

    /// Accepts the handshake (RFC 6455, section 4.2.2), agreeing upon a subprotocol and extensions if
    /// they are given.
    pub fn accept(
        mut self,
        protocol: Option<&'static str>,
        extensions: Option<HeaderValue>,
    ) -> io::Result<Upgraded<IO>> {
        let mut response = handshake_response(self.head());
        if let Some(protocol) = protocol {
            response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, protocol));
        }
        if let Some(extensions) = extensions {
            response.insert_header((header::SEC_WEBSOCKET_EXTENSIONS, extensions));
        }
        let response =
            response.message_body(()).map_err(|error| io::Error::other(error.to_string()))?;
        Pin::new(&mut self.framed).write(Message::Item((response, BodySize::None)))?;
        let FramedParts { io, read_buf: early, write_buf, .. } = self.framed.into_parts();
        Ok(Upgraded { io, early, answer: write_buf.freeze() })
    }

    /// Answers with a problem and hangs up.
    pub async fn refuse(mut self, problem: &Problem) {
        let (response, body) = problem.error_response().into_parts();
        let mut head = Response::from(response);
        head.head_mut().set_connection_type(ConnectionType::Close);
        secure(head.headers_mut());
        let body = to_bytes(body).await.unwrap_or_default();
        let size = BodySize::Sized(body.len() as u64);
        let sent = async {
            self.framed.feed(Message::Item((head, size))).await?;
            self.framed.feed(Message::Chunk(Some(body))).await?;
            self.framed.send(Message::Chunk(None)).await
        };
        if sent.await.is_ok() {
            let mut io = self.framed.into_parts().io;
            _ = within(LINGER, hang_up(&mut io)).await;
        }
    }
}

/// Ends our half and waits for the client to end its own.
async fn hang_up(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    io.shutdown().await?;
    let mut ignored = [0; 512];
    while io.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// Whether a request is the opening handshake of RFC 6455, section 4.2.1.
pub fn require_handshake(head: &RequestHead) -> Result<(), Problem> {
    verify_handshake(head).map_err(|error| {
        let code = match error {
            HandshakeError::GetMethodRequired
            | HandshakeError::NoWebsocketUpgrade
            | HandshakeError::UnsupportedVersion => Code::UpgradeRequired,
            _ => Code::BadRequest,
        };
        let lost = match error {
            HandshakeError::NoWebsocketUpgrade | HandshakeError::NoConnectionUpgrade => {
                "; a proxy before the broker must pass on `Upgrade` and `Connection`, over HTTP/1.1"
            }
            _ => "",
        };
        Problem::new(code, format!("this path speaks WebSocket (RFC 6455): {error}{lost}"))
    })
}
