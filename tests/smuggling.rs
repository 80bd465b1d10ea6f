//! Requests that two readers might read differently: each is refused with its connection, or means one
//! thing, and what follows on the connection is never taken for something else.

mod support;

use std::net::SocketAddr;

use support::TestServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What must become of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// It is refused with this status, and the connection ends.
    Refused(u16),
    /// It is answered with this status, and the next request after it.
    Answered(u16),
    /// It is answered with this status, and what is behind it is no request.
    Last(u16),
    /// It is answered with this status. Whether the connection ends with it depends on what had come by
    /// then; if not, the next request is answered.
    MayEnd(u16),
}

use Fate::{Answered, Last, MayEnd, Refused};

impl Fate {
    #[track_caller]
    fn check(self, what: &str, statuses: &[u16]) {
        let is_as_told = match self {
            Refused(status) => statuses == [status],
            Last(status) => {
                let rest = statuses.strip_prefix(&[status]);
                rest.is_some_and(|rest| rest.iter().all(|status| *status == 400))
            }
            Answered(status) => statuses == [status, 200],
            MayEnd(status) => statuses == [status] || statuses == [status, 200],
        };
        assert!(is_as_told, "{what}: {statuses:?} and not {self:?}");
    }
}

/// A request inside another: it would be answered with 422, which nothing else here is.
const INNER: &str = "GET /v1/topics/a..b HTTP/1.1\r\nHost: a\r\n\r\n";

/// The request that comes behind.
const NEXT: &str = "GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// The statuses of all that is answered until the broker ends the connection.
async fn statuses(address: SocketAddr, request: &[u8]) -> Vec<u16> {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    // It may be cut off before it has said everything.
    _ = stream.write_all(request).await;
    _ = stream.write_all(NEXT.as_bytes()).await;
    let mut answer = Vec::new();
    let read = timeout(support::PATIENCE, stream.read_to_end(&mut answer)).await;
    _ = read.expect("the connection ends");
    let text = String::from_utf8_lossy(&answer);
    let heads = text.split("HTTP/1.1 ").skip(1);
    heads.map(|head| head[..3].parse().expect("a status")).collect()
}

/// A publish with these header lines and this body.
fn publish(lines: &str, body: &str) -> String {
    format!("POST /v1/topics/a/events HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}")
}

// The cases are tables: rows of one shape, each of which says something else.
async fn check(cases: &[(&str, String, Fate)]) {
    let server = TestServer::open();
    for (what, request, fate) in cases {
        fate.check(what, &statuses(server.addr, request.as_bytes()).await);
    }
    let kept = server.get("/v1/topics/a").send().await.expect("an answer");
    let kept: serde_json::Value = kept.json().await.expect("JSON");
    let taken = cases.iter().filter(|(_, _, fate)| *fate == Answered(201)).count();
    assert_eq!(kept["retained"], taken, "no more is published than was answered");
}

#[tokio::test]
async fn the_length_of_a_body_is_told_in_one_way() {
    let inner = INNER.len();
    check(&[
        ("a plain body", publish("Content-Length: 1\r\n", "1"), Answered(201)),
        (
            "length and chunks",
            publish(
                "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
                &format!("0\r\n\r\n{INNER}"),
            ),
            Refused(400),
        ),
        (
            "chunks and length",
            publish(
                &format!("Transfer-Encoding: chunked\r\nContent-Length: {inner}\r\n"),
                &format!("0\r\n\r\n{INNER}"),
            ),
            Refused(400),
        ),
        (
            "two lengths",
            publish(
                &format!("Content-Length: 1\r\nContent-Length: {inner}\r\n"),
                &format!("1{INNER}"),
            ),
            Refused(400),
        ),
        (
            "the same length twice",
            publish("Content-Length: 1\r\nContent-Length: 1\r\n", "1"),
            Refused(400),
        ),
        ("a list of lengths", publish("Content-Length: 1, 1\r\n", "1"), Refused(400)),
        ("a length with a sign", publish("Content-Length: +1\r\n", "1"), Refused(400)),
        ("a length below nothing", publish("Content-Length: -1\r\n", "1"), Refused(400)),
        ("a length in hexadecimal", publish("Content-Length: 0x1\r\n", "1"), Refused(400)),
        ("a length with a space in it", publish("Content-Length: 1 1\r\n", "1"), Refused(400)),
        ("no length", publish("Content-Length:\r\n", "1"), Refused(400)),
        (
            "a length beyond all",
            publish("Content-Length: 99999999999999999999\r\n", "1"),
            Refused(400),
        ),
        ("a space before the colon", publish("Content-Length : 1\r\n", "1"), Refused(400)),
        ("a tab before the colon", publish("Content-Length\t: 1\r\n", "1"), Refused(400)),
        ("a NUL in the name", publish("Content\0Length: 1\r\n", "1"), Refused(400)),
        (
            "a body of a GET",
            format!(
                "GET /health/live HTTP/1.1\r\nHost: a\r\nContent-Length: {inner}\r\n\r\n{INNER}"
            ),
            MayEnd(200),
        ),
    ])
    .await;
}

#[tokio::test]
async fn chunks_are_read_in_one_way() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let body = |body: &str| publish(chunked, body);
    check(&[
        ("chunks", body("1\r\n1\r\n0\r\n\r\n"), Answered(201)),
        ("an extension", body("1;a=b\r\n1\r\n0\r\n\r\n"), Answered(201)),
        ("an extension in quotes", body("1;a=\"b\"\r\n1\r\n0;c\r\n\r\n"), Answered(201)),
        ("leading zeros", body("0001\r\n1\r\n000\r\n\r\n"), Answered(201)),
        ("a line feed within an extension", body("1;a\nb\r\n1\r\n0\r\n\r\n"), Refused(400)),
        ("a bare line feed after the size", body("1\n1\r\n0\r\n\r\n"), Refused(400)),
        ("a bare line feed after the data", body("1\r\n1\n0\r\n\r\n"), Refused(400)),
        ("more data than the size", body("1\r\n12\r\n0\r\n\r\n"), Refused(400)),
        ("a size with a prefix", body("0x1\r\n1\r\n0\r\n\r\n"), Refused(400)),
        ("a size with a sign", body("+1\r\n1\r\n0\r\n\r\n"), Refused(400)),
        ("a size below nothing", body("-1\r\n1\r\n0\r\n\r\n"), Refused(400)),
        ("a size that overflows", body("fffffffffffffffff\r\n1\r\n0\r\n\r\n"), Refused(400)),
        ("no size", body("\r\n1\r\n0\r\n\r\n"), Refused(400)),
        ("another coding", publish("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), Refused(400)),
        (
            "a list of codings",
            publish("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            Refused(400),
        ),
        (
            "chunked before another",
            publish("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
            Refused(400),
        ),
        (
            "the coding twice",
            publish("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            Refused(400),
        ),
        ("identity", publish("Transfer-Encoding: identity\r\n", ""), Refused(400)),
        ("no coding", publish("Transfer-Encoding:\r\n", "0\r\n\r\n"), Refused(400)),
        (
            "a vertical tab before the coding",
            publish("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
            Refused(400),
        ),
        ("a space before the colon", publish("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), Refused(400)),
        (
            "chunks in HTTP/1.0",
            "POST /v1/topics/a/events HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            Refused(400),
        ),
    ])
    .await;
}

#[tokio::test]
async fn the_head_of_a_request_is_read_in_one_way() {
    let get = |lines: &str| format!("GET /health/live HTTP/1.1\r\n{lines}\r\n");
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    let long = "x".repeat(200_000);
    check(&[
        ("one host", get("Host: a\r\n"), Answered(200)),
        ("two hosts", get("Host: a\r\nHost: b\r\n"), Refused(400)),
        ("the same host twice", get("Host: a\r\nHost: a\r\n"), Refused(400)),
        ("no host", get(""), Refused(400)),
        ("a folded line", get("Host: a\r\nX-A: b\r\n c\r\n"), Refused(400)),
        ("a folded first line", get(" Host: a\r\nHost: a\r\n"), Refused(400)),
        ("a folded length", get("Host: a\r\nContent-Length:\r\n 5\r\n"), Refused(400)),
        ("a bare carriage return", get("Host: a\r\nX-A: b\rX-B: c\r\n"), Refused(400)),
        ("a NUL in a value", get("Host: a\r\nX-A: b\0c\r\n"), Refused(400)),
        ("a line without a colon", get("Host: a\r\nX-A\r\n"), Refused(400)),
        ("a line without a name", get("Host: a\r\n: b\r\n"), Refused(400)),
        ("bare line feeds", "GET /health/live HTTP/1.1\nHost: a\n\n".into(), Answered(200)),
        ("too many lines", get(&format!("Host: a\r\n{many}")), Refused(431)),
        ("too long a line", get(&format!("Host: a\r\nX-A: {long}\r\n")), Refused(431)),
        (
            "an absolute target",
            "GET http://a/health/live HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            Answered(200),
        ),
        (
            "an absolute target of another host",
            "GET http://b/v1/topics HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            Answered(400),
        ),
        ("another version", "GET /health/live HTTP/1.2\r\nHost: a\r\n\r\n".into(), Refused(400)),
        (
            "the version of HTTP/2",
            "GET /health/live HTTP/2.0\r\nHost: a\r\n\r\n".into(),
            Refused(400),
        ),
        ("no version", "GET /health/live\r\nHost: a\r\n\r\n".into(), Refused(400)),
        (
            "a method with a NUL",
            "G\0T /health/live HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            Refused(400),
        ),
        (
            "a target with a space",
            "GET /health /live HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            Refused(400),
        ),
        (
            "a preface of HTTP/2 of another version",
            "PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n".into(),
            Refused(400),
        ),
        (
            "empty lines before it",
            "\r\n\r\nGET /health/live HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            Answered(200),
        ),
    ])
    .await;
}

#[tokio::test]
async fn an_upgrade_hides_no_second_request() {
    let server = TestServer::open();
    let inner = INNER.len();
    let handshake = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n";
    let get = |lines: &str| format!("GET /health/live HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let of_version_7 = handshake.replace("13", "7");
    let with_body = format!("{handshake}Content-Length: {inner}\r\n");
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
               HTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    for (what, request, fate) in [
        ("an upgrade elsewhere", get(handshake) + INNER, Last(200)),
        (
            "a handshake of another version",
            format!("GET /v1/ws HTTP/1.1\r\nHost: a\r\n{of_version_7}\r\n{INNER}"),
            Refused(426),
        ),
        (
            "a handshake with a body",
            format!("POST /v1/ws HTTP/1.1\r\nHost: a\r\n{with_body}\r\n{INNER}"),
            Refused(426),
        ),
        (
            "an upgrade that the connection does not ask for",
            publish("Upgrade: websocket\r\nContent-Length: 1\r\n", &format!("1{INNER}")),
            Last(201),
        ),
        ("an upgrade to HTTP/2", get(h2c), MayEnd(200)),
        ("a last request", get("Connection: close\r\n") + INNER, Last(200)),
        ("a tunnel", format!("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n{INNER}"), Refused(404)),
    ] {
        fate.check(what, &statuses(server.addr, request.as_bytes()).await);
    }
}
