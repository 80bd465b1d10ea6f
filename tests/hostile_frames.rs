//! Clients that break RFC 6455, or use it to hurt: the right close code, flat memory, and other
//! clients that notice nothing.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::ws::WsClient;
use support::{PATIENCE, TestServer, eventually};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection that is upgraded and then speaks bytes.
struct RawClient {
    stream: TcpStream,
    received: Vec<u8>,
}

impl RawClient {
    async fn connect(server: &TestServer, query: &str) -> Self {
        let mut stream = TcpStream::connect(server.addr).await.expect("a connection");
        let request = format!(
            "GET /v1/ws{query} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n",
            server.addr
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut received = Vec::new();
        while !received.windows(4).any(|end| end == b"\r\n\r\n") {
            stream.read_buf(&mut received).await.expect("a response");
        }
        assert!(received.starts_with(b"HTTP/1.1 101"));
        Self { stream, received }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("sent");
    }

    /// Reads to the end; the `code` of the bye and the code of the close frame.
    async fn verdict(mut self) -> (String, u16) {
        let reading = self.stream.read_to_end(&mut self.received);
        _ = timeout(PATIENCE, reading).await.expect("the broker hangs up");
        let at = self.received.windows(4).position(|end| end == b"\r\n\r\n").expect("a head");
        let mut frames = &self.received[at + 4..];
        let mut bye = String::new();
        loop {
            let &[first, length, ..] = frames else { panic!("no close frame") };
            let (start, length) = match length {
                126 => (4, usize::from(u16::from_be_bytes([frames[2], frames[3]]))),
                short => (2, usize::from(short)),
            };
            let payload = &frames[start..start + length];
            match first {
                0x88 => return (bye, u16::from_be_bytes([payload[0], payload[1]])),
                0x81 => {
                    let message: Value = serde_json::from_slice(payload).expect("JSON");
                    if message["op"] == "bye" {
                        bye = message["code"].as_str().expect("a code").to_owned();
                    }
                }
                _ => {}
            }
            frames = &frames[start + length..];
        }
    }
}

/// A masked frame with a mask of zeros: first byte and payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend((long as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// What this process, clients and broker together, holds in memory, in bytes.
/// Held by tests that look at the memory of the process, which they share.
static LOOKING_AT_MEMORY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn memory() -> u64 {
    let pid = sysinfo::get_current_pid().expect("a process");
    let mut system = System::new();
    let memory = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, memory);
    system.process(pid).expect("this process").memory()
}

#[tokio::test]
async fn each_violation_has_its_close_code_and_others_are_untouched() {
    let server = TestServer::open();
    let mut bystander = WsClient::live(&server, "?topic=a").await;
    let unmasked = [0x81, 0x02, b'{', b'}'].to_vec();
    let tebibyte = [&[0x82, 0xff][..], &(1_u64 << 40).to_be_bytes(), &[0; 4]].concat();
    let beyond = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    let continued = [frame(0x01, b"{"), frame(0x81, b"}")].concat();
    for (what, bytes, name, code) in [
        ("an unmasked frame", unmasked, "protocol_error", 1002),
        ("a reserved bit", frame(0xc1, b"{}"), "protocol_error", 1002),
        ("a reserved opcode", frame(0x83, b"{}"), "protocol_error", 1002),
        ("a reserved control opcode", frame(0x8b, b""), "protocol_error", 1002),
        ("a continuation of nothing", frame(0x80, b"{}"), "protocol_error", 1002),
        ("a message within a message", continued, "protocol_error", 1002),
        ("a fragmented ping", frame(0x09, b""), "protocol_error", 1002),
        ("an oversized ping", frame(0x89, &[0; 126]), "protocol_error", 1002),
        ("a close code of one byte", frame(0x88, &[3]), "protocol_error", 1002),
        ("the close code 1005", frame(0x88, &[3, 237]), "protocol_error", 1002),
        ("the close code 999", frame(0x88, &[3, 231]), "protocol_error", 1002),
        ("text that is not UTF-8", frame(0x81, &[0xff, 0xfe]), "invalid_text", 1007),
        ("a close reason that is not UTF-8", frame(0x88, &[3, 232, 0xff]), "invalid_text", 1007),
        ("a header of 1 TiB", tebibyte, "too_large", 1009),
        ("a header of 16 EiB", beyond, "too_large", 1009),
    ] {
        let mut client = RawClient::connect(&server, "").await;
        client.send(&bytes).await;
        assert_eq!(client.verdict().await, (name.to_owned(), code), "{what}");
        server.publish("a", &json!(what)).await;
        assert_eq!(bystander.until("event").await["data"], what);
    }
}

#[tokio::test]
async fn a_large_header_is_refused_before_its_payload_and_while_it_is_sent() {
    let _alone = LOOKING_AT_MEMORY.lock().await;
    let server = TestServer::open();
    let before = memory();
    let mut client = RawClient::connect(&server, "").await;
    client.send(&[&[0x82, 0xff][..], &(1_u64 << 30).to_be_bytes(), &[0; 4]].concat()).await;
    // It goes on sending, 64 MiB: the verdict must come through all the same.
    for _ in 0..1_024 {
        client.send(&[0; 64 * 1024]).await;
    }
    assert_eq!(client.verdict().await, ("too_large".to_owned(), 1009));
    let grown = memory().saturating_sub(before);
    // Other tests of this process start their servers meanwhile.
    assert!(grown < 32 << 20, "{grown} bytes more");
}

#[tokio::test]
async fn fragments_without_end_are_refused_by_number_and_by_size() {
    let server = TestServer::with(|config| config.limits.message_fragments = 50);
    let mut many = RawClient::connect(&server, "").await;
    many.send(&frame(0x01, b"")).await;
    for _ in 0..50 {
        many.send(&frame(0x00, b"")).await;
    }
    assert_eq!(many.verdict().await, ("too_large".to_owned(), 1009));

    let mut long = RawClient::connect(&server, "").await;
    long.send(&frame(0x02, &[0; 60_000])).await;
    long.send(&frame(0x00, &[0; 60_000])).await;
    long.send(&frame(0x00, &[0; 60_000])).await;
    assert_eq!(long.verdict().await, ("too_large".to_owned(), 1009));
}

#[tokio::test]
async fn a_message_that_trickles_in_with_pings_between_its_fragments_is_read() {
    let server = TestServer::open();
    let mut client = RawClient::connect(&server, "").await;
    let mut bytes = frame(0x01, br#"{"op":"#);
    bytes.extend(frame(0x89, b"alive"));
    bytes.extend(frame(0x00, br#""ping","#));
    bytes.extend(frame(0x80, br#""ref":1}"#));
    for byte in bytes {
        client.send(&[byte]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let pong = [&[0x8a, 5][..], b"alive"].concat();
    let answer = [&[0x81, 21][..], br#"{"op":"pong","ref":1}"#].concat();
    let has = |received: &[u8], bytes: &[u8]| received.windows(bytes.len()).any(|at| at == bytes);
    let reading = async {
        while !has(&client.received, &answer) {
            client.stream.read_buf(&mut client.received).await.expect("bytes");
        }
    };
    timeout(PATIENCE, reading).await.expect("an answer");
    assert!(has(&client.received, &pong));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_pings_from_a_client_that_does_not_read_ends_with_it() {
    let _alone = LOOKING_AT_MEMORY.lock().await;
    let server = TestServer::with(|config| {
        config.limits.close_timeout = Duration::from_millis(200);
    });
    let mut bystander = WsClient::live(&server, "?topic=a").await;
    let before = memory();
    let mut flood = RawClient::connect(&server, "").await;
    let pings = frame(0x89, &[7; 125]).repeat(1_000);
    let mut sent = 0;
    while let Ok(Ok(())) = timeout(Duration::from_secs(2), flood.stream.write_all(&pings)).await {
        sent += pings.len();
        assert!(sent < 1 << 30, "nothing stopped the flood");
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    server.publish("a", &json!("after the flood")).await;
    assert_eq!(bystander.until("event").await["data"], "after the flood");
    let alone = async || {
        let sessions = server.get("/v1/sessions").send().await.expect("an answer");
        let sessions: Value = sessions.json().await.expect("JSON");
        sessions["sessions"].as_array().expect("a list").len() == 1
    };
    eventually("the flood's session is gone", alone).await;
}

#[tokio::test]
async fn random_bytes_end_in_a_close_code_and_never_in_a_panic() {
    let server = TestServer::open();
    for seed in 0..200_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut client = RawClient::connect(&server, "?topic=a").await;
        let bytes = (0..300).map(|_| {
            // xorshift64 (Marsaglia, 2003): the same bytes on each run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[3]
        });
        client.send(&bytes.collect::<Vec<_>>()).await;
        client.stream.shutdown().await.expect("shut down");
        let mut rest = Vec::new();
        _ = timeout(PATIENCE, client.stream.read_to_end(&mut rest)).await.expect("an end");
    }
    let mut client = WsClient::live(&server, "?topic=a").await;
    server.publish("a", &json!(1)).await;
    assert_eq!(client.until("event").await["data"], 1);
}
