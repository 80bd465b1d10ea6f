//! A WebSocket echo server on the transport that sessions use.
//!
//! Nothing of Fanfare but the socket loop, its frames and its outbox: what the Autobahn test suite
//! is run against (`scripts/autobahn`). Serves on the address given, or on 127.0.0.1:9001.

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
    FrameLimits, Listener, Outgoing, Said, SharedTcp, Socket, SocketLimits, Upgrade, Upgraded,
    close_frame, message_frame, require_handshake,
};
use futures_util::future::{LocalBoxFuture, ready};

/// The suite sends messages of up to 16 MiB, in up to as many frames as it has 64-byte pieces.
const LIMITS: SocketLimits = SocketLimits {
    frames: FrameLimits { message_bytes: 32 << 20, message_fragments: 1 << 20 },
    close_timeout: Duration::from_secs(2),
    stall_timeout: Duration::from_secs(30),
};

/// What may wait for a client, in bytes: a few of the largest messages.
const OUTBOX_BYTES: usize = 128 << 20;

/// Says everything back.
struct Echo(Arc<Outgoing>);

impl Listener for Echo {
    fn said(&mut self, message: Said) -> LocalBoxFuture<'static, ()> {
        let frame = match message {
            Said::Text(text) => message_frame(text, OpCode::Text),
            Said::Binary(bytes) => message_frame(bytes, OpCode::Binary),
        };
        if self.0.push(frame).is_err() {
            self.end(Close::SlowConsumer);
        }
        Box::pin(ready(()))
    }

    fn end(&mut self, close: Close) {
        self.0.close([close_frame(close)], false);
    }
}

async fn echo(upgrade: Upgrade<SharedTcp>) -> io::Result<()> {
    if let Err(problem) = require_handshake(upgrade.head()) {
        upgrade.refuse(&problem).await;
        return Ok(());
    }
    let Upgraded { io, early, answer } = upgrade.accept(None)?;
    let outgoing = Arc::new(Outgoing::new(OUTBOX_BYTES));
    _ = outgoing.push(answer);
    actix_web::rt::spawn(Socket::new(io, early, outgoing.clone(), LIMITS, Echo(outgoing)));
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
