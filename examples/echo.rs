//! A WebSocket echo server on the transport that sessions use.
//!
//! Nothing of Fanfare but the socket loop, its frames, its compression and its outbox: what the
//! Autobahn test suite is run against (`scripts/autobahn`). Serves on the address given, or on
//! 127.0.0.1:9001.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_codec::Framed;
use actix_http::ws::OpCode;
use actix_http::{HttpService, Response};
use actix_web::dev::{Server, fn_service};
use actix_web::rt::net::TcpStream;
use fanfare::model::Close;
use fanfare::session::{
    Contexts, Deflate, FrameLimits, Listener, Outgoing, Said, SharedTcp, Socket, SocketLimits,
    Upgrade, Upgraded, close_frame, message_frame, require_handshake,
};
use futures_util::future::{LocalBoxFuture, ready};

/// The suite sends messages of up to 16 MiB, in up to as many frames as it has 64-byte pieces.
fn limits(deflate: bool) -> SocketLimits {
    SocketLimits {
        frames: FrameLimits { message_bytes: 32 << 20, message_fragments: 1 << 20, deflate },
        close_timeout: Duration::from_secs(2),
        stall_timeout: Duration::from_secs(30),
    }
}

/// What may wait for a client, in bytes: a few of the largest messages.
const OUTBOX_BYTES: usize = 128 << 20;

/// What is kept of what a client sent compressed, in bytes.
const CONTEXT_BYTES: usize = 32 << 10;

/// Says everything back, compressed where that was agreed upon and makes it smaller.
struct Echo {
    outgoing: Arc<Outgoing>,
    deflate: Option<Deflate>,
}

impl Listener for Echo {
    fn said(&mut self, messages: Vec<Said>) -> LocalBoxFuture<'static, ()> {
        for message in messages {
            let frame = match message {
                Said::Text(text) => message_frame(text, OpCode::Text),
                Said::Binary(bytes) => message_frame(bytes, OpCode::Binary),
            };
            let smaller = self.deflate.and_then(|deflate| deflate.shrink(&frame));
            if self.outgoing.push(smaller.unwrap_or(frame)).is_err() {
                self.end(Close::SlowConsumer);
            }
        }
        Box::pin(ready(()))
    }

    fn end(&mut self, close: Close) {
        self.outgoing.close([close_frame(close.code(), close.message())], false);
    }
}

async fn echo(upgrade: Upgrade<SharedTcp>) -> io::Result<()> {
    let head = upgrade.head();
    let contexts = Contexts::new(CONTEXT_BYTES);
    let agreed =
        require_handshake(head).and_then(|()| Deflate::negotiate(&head.headers, 0, &contexts));
    let (deflate, context) = match agreed {
        Ok(agreed) => agreed.unzip(),
        Err(problem) => {
            upgrade.refuse(&problem).await;
            return Ok(());
        }
    };
    let extensions = deflate.map(|deflate| deflate.answer());
    let Upgraded { io, early, answer } = upgrade.accept(None, extensions)?;
    let outgoing = Arc::new(Outgoing::new(OUTBOX_BYTES));
    _ = outgoing.push(answer);
    let limits = limits(deflate.is_some());
    let echo = Echo { outgoing: outgoing.clone(), deflate };
    let socket = Socket::new(io, early, outgoing, limits, echo);
    actix_web::rt::spawn(socket.remembering(context.flatten()));
    Ok(())
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    actix_web::rt::System::new().block_on(async move {
        let server = Server::build().workers(2).bind("echo", &address, || {
            HttpService::build()
                .tcp_nodelay(true)
                .upgrade(fn_service(|(request, framed): (_, Framed<TcpStream, _>)| async {
                    let framed = framed.into_map_io(SharedTcp::new);
                    echo(Upgrade::new(request, framed)).await.map_err(actix_web::Error::from)
                }))
                .finish(|_| async { Ok::<_, Infallible>(Response::not_found()) })
                .tcp()
        })?;
        println!("echoing on ws://{address}/");
        server.run().await
    })
}
