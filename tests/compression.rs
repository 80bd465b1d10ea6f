//! permessage-deflate as clients see it: the same messages, compressed once for all, and no bombs.

mod support;

use serde_json::{Value, json};
use support::deflate::{DeflateClient, Deflater, OFFER, RSV1, deflate};
use support::process::Process;
use support::ws::WsClient;
use support::{TestServer, eventually, expect_status};

const CBOR: (&str, &str) = ("Sec-WebSocket-Protocol", "fanfare.v1+cbor");

async fn connect(server: &TestServer, query: &str, headers: &[(&str, &str)]) -> DeflateClient {
    let connected = DeflateClient::connect(&server.addr.to_string(), query, headers).await;
    connected.expect("the connection opens")
}

/// A client that offers compression.
async fn compressed(server: &TestServer, query: &str) -> DeflateClient {
    connect(server, query, &[("Sec-WebSocket-Extensions", OFFER)]).await
}

/// Rows as a dashboard gets them, about 100 bytes each.
fn rows(count: usize) -> Value {
    let row = |n: usize| json!({"host": format!("node-{n}"), "load": n as f64 / 7.0, "state": "ok", "since": "2026-11-23T09:00:00Z"});
    (0..count).map(row).collect()
}

async fn metric(server: &TestServer, name: &str) -> u64 {
    let metrics = server.get("/metrics").send().await.expect("an answer");
    let text = metrics.text().await.expect("text");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.expect("the metric").parse().expect("a number")
}

#[tokio::test]
async fn events_arrive_the_same_compressed_and_plain_in_json_and_in_cbor() {
    let server = TestServer::open();
    let small = ("Sec-WebSocket-Extensions", "permessage-deflate; server_max_window_bits=10");
    let full = ("Sec-WebSocket-Extensions", OFFER);
    for protocol in [None, Some(CBOR)] {
        let mut clients = Vec::new();
        for offer in [None, Some(full), Some(small)] {
            let headers: Vec<_> = [protocol, offer].into_iter().flatten().collect();
            let mut client = connect(&server, "?topic=a", &headers).await;
            assert_eq!(client.extensions.is_some(), offer.is_some());
            // welcome, ack, live
            for _ in 0..3 {
                client.frame().await;
            }
            clients.push(client);
        }
        for data in [json!(1), rows(5), rows(600), json!("ä€😀\u{0}".repeat(500)), json!({})] {
            server.publish("a", &data).await;
            let plain = clients[0].frame().await;
            assert!(!plain.is_compressed());
            let mut streams = Vec::new();
            for client in &mut clients[1..] {
                let frame = client.frame().await;
                let is_long = plain.payload.len() >= 512;
                assert_eq!(frame.is_compressed(), is_long, "{} bytes", plain.payload.len());
                assert_eq!(frame.message(), plain.payload);
                assert!(!is_long || frame.payload.len() < plain.payload.len() / 2);
                streams.push(frame.payload);
            }
            // Long enough for the windows to differ.
            if plain.payload.len() > 10_000 {
                assert_ne!(streams[0], streams[1]);
            }
        }
    }
}

#[tokio::test]
async fn an_event_is_compressed_once_for_all_who_agreed_to_it() {
    let server = TestServer::open();
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = compressed(&server, "?topic=a").await;
        client.until("live").await;
        clients.push(client);
    }
    for n in 0..5 {
        server.publish("a", &json!([n, rows(20)])).await;
    }
    let mut first = Vec::new();
    for client in &mut clients {
        let mut frames = Vec::new();
        for _ in 0..5 {
            let frame = client.until("event").await;
            assert!(frame.is_compressed());
            frames.push(frame);
        }
        if first.is_empty() {
            first = frames;
        } else {
            assert_eq!(first, frames);
        }
    }
    assert_eq!(metric(&server, "fanfare_messages_compressed_total").await, 5);
    assert_eq!(metric(&server, "fanfare_events_delivered_total").await, 100);
}

#[tokio::test]
async fn what_a_subscription_begins_with_is_compressed_too() {
    let server = TestServer::open();
    let first = server.publish("a", &json!(0)).await;
    server.publish("a", &rows(30)).await;
    let since = first["id"].as_str().expect("an id");
    for query in [format!("?topic=a&since={since}"), "?topic=a&snapshot=true".to_owned()] {
        let mut client = compressed(&server, &query).await;
        let frame = client.until("event").await;
        assert!(frame.is_compressed(), "{query}");
        assert_eq!(frame.json()["data"], rows(30), "{query}");
    }
}

#[tokio::test]
async fn what_many_come_back_for_is_compressed_once_for_all_of_them() {
    const CLIENTS: usize = 20;
    // Each thread has its own.
    let server = TestServer::with(|config| config.server.workers = 1);
    let first = server.publish("a", &json!(0)).await;
    for n in 0..5 {
        server.publish("a", &json!([n, rows(20)])).await;
    }
    let since = first["id"].as_str().expect("an id");
    for (query, count) in
        [(format!("?topic=a&since={since}"), 5), ("?topic=a&snapshot=true".into(), 1)]
    {
        let mut told = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = compressed(&server, &query).await;
            let mut frames = Vec::new();
            for _ in 0..count {
                let frame = client.until("event").await;
                assert!(frame.is_compressed(), "{query}");
                frames.push(frame);
            }
            told.push(frames);
        }
        assert!(told.iter().all(|frames| *frames == told[0]), "{query}");
    }
    assert_eq!(metric(&server, "fanfare_messages_compressed_total").await, 6);
    let replayed = metric(&server, "fanfare_events_replayed_total").await;
    assert_eq!(replayed, 6 * CLIENTS as u64);
}

#[tokio::test]
async fn every_message_that_gets_shorter_may_be_compressed_but_no_control_frame() {
    let server = TestServer::with(|config| {
        config.server.compression = Some(0);
        config.server.heartbeat = std::time::Duration::from_secs(1);
    });
    let mut client = compressed(&server, "").await;
    let request = json!({"op": "subscribe", "ref": 1, "topics": ["x.".repeat(120) + "*.*..x"]});
    client.send(0x81, request.to_string().as_bytes()).await;
    let error = client.until("error").await;
    assert!(error.is_compressed());
    assert_eq!(error.json()["code"], "invalid_pattern");
    let same = [b'a'; 125];
    client.send(0x89, &same).await;
    loop {
        let frame = client.frame().await;
        if frame.first == 0x8a {
            assert_eq!(frame.payload, same);
            break;
        }
        assert!(frame.first == 0x89 || frame.first & 0x0f == 1, "{frame:?}");
    }
}

#[tokio::test]
async fn a_client_may_send_compressed_messages_whole_and_in_fragments() {
    let server = TestServer::open();
    let mut client = compressed(&server, "?topic=a").await;
    client.until("live").await;
    let publish = |n: u32| {
        let request = json!({"op": "publish", "ref": n, "topic": "a", "data": [n, rows(40)]});
        deflate(request.to_string().as_bytes())
    };
    client.send(0x81 | RSV1, &publish(1)).await;
    let (start, end) = (publish(2), publish(2));
    let middle = start.len() / 2;
    client.send(0x02 | RSV1, &start[..middle]).await;
    client.send(0x89, b"between").await;
    client.send(0x80, &end[middle..]).await;
    for n in [1, 2] {
        assert_eq!(client.until("event").await.json()["data"], json!([n, rows(40)]));
    }
    client.send(0x81, br#"{"op":"ping","ref":3}"#).await;
    assert_eq!(client.until("pong").await.json()["ref"], 3);
}

#[tokio::test]
async fn broken_streams_close_with_a_code_and_others_are_untouched() {
    let server = TestServer::open();
    let mut bystander = WsClient::live(&server, "?topic=a").await;
    let whole = deflate(br#"{"op":"ping","ref":1}"#);
    for (what, first, payload, code) in [
        ("bytes that are no stream", 0xc1, &b"{\"op\":\"ping\"}"[..], 1002),
        ("a stream cut short", 0xc1, &whole[..whole.len() / 2], 1002),
        ("a compressed ping", 0xc9, b"", 1002),
        ("another reserved bit", 0xe1, &whole, 1002),
        ("text that is not UTF-8", 0xc1, &deflate(&[0xff, 0xfe]), 1007),
        ("one byte too much", 0xc2, &deflate(&[b' '; 128 * 1024 + 1]), 1009),
    ] {
        let mut client = compressed(&server, "").await;
        client.send(first, payload).await;
        assert_eq!(client.close_code().await, code, "{what}");
        server.publish("a", &json!(what)).await;
        assert_eq!(bystander.until("event").await["data"], what);
    }
    let mut client = connect(&server, "", &[]).await;
    client.send(0xc1, &whole).await;
    assert_eq!(client.close_code().await, 1002, "a compressed message without an agreement");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_bomb_is_refused_and_never_held_in_memory() {
    let broker = Process::start(&["--set", "server.workers=1"]);
    let offer = [("Sec-WebSocket-Extensions", OFFER)];
    let connect = async || {
        DeflateClient::connect(&broker.address, "", &offer).await.expect("the connection opens")
    };
    // One of 128 KiB, before: what inflating needs is there.
    let mut client = connect().await;
    client.send(0xc2, &deflate(&[b' '; 128 * 1024])).await;
    client.until("error").await;
    let before = broker.peak_memory();
    let bomb = deflate(&vec![0; 32 << 20]);
    assert!(bomb.len() < 128 * 1024, "{}", bomb.len());
    for _ in 0..10 {
        let mut client = connect().await;
        client.send(0xc2, &bomb).await;
        assert_eq!(client.close_code().await, 1009);
    }
    let grown = broker.peak_memory() - before;
    assert!(grown < 8 << 20, "{grown} bytes more at the peak");
}

#[tokio::test]
async fn what_is_not_acceptable_or_switched_off_is_declined_and_bad_grammar_is_refused() {
    let server = TestServer::open();
    let agreed = compressed(&server, "").await.extensions;
    let terms = "permessage-deflate; server_no_context_takeover; client_max_window_bits=10";
    assert_eq!(agreed.as_deref(), Some(terms));
    let offer = |value| [("Sec-WebSocket-Extensions", value)];
    let declined = connect(&server, "", &offer("permessage-deflate; mode=fast, x-other")).await;
    assert_eq!(declined.extensions, None);
    let address = server.addr.to_string();
    let refused = DeflateClient::connect(&address, "", &offer("permessage-deflate; =")).await;
    assert_eq!(refused.err().as_deref(), Some("HTTP/1.1 400 Bad Request"));

    let server = TestServer::with(|config| config.server.compression = None);
    let mut client = compressed(&server, "?topic=a").await;
    assert_eq!(client.extensions, None);
    client.until("live").await;
    server.publish("a", &rows(30)).await;
    assert!(!client.until("event").await.is_compressed());
    client.send(0xc1, &deflate(br#"{"op":"ping"}"#)).await;
    assert_eq!(client.close_code().await, 1002);
    eventually("the session is gone", async || {
        let sessions = server.get("/v1/sessions").send().await.expect("an answer");
        expect_status(sessions, reqwest::StatusCode::OK).await["sessions"] == json!([])
    })
    .await;
}

/// What Jetty and reactor-netty offer: they keep their context, whatever they are asked.
const PLAIN_OFFER: [(&str, &str); 1] = [("Sec-WebSocket-Extensions", "permessage-deflate")];

#[tokio::test]
async fn a_client_whose_messages_refer_to_those_before_is_understood() {
    let server = TestServer::open();
    for (offer, answer, bits) in [
        ("permessage-deflate", "permessage-deflate; server_no_context_takeover", 15),
        (OFFER, "permessage-deflate; server_no_context_takeover; client_max_window_bits=10", 10),
    ] {
        let mut client = connect(&server, "", &[("Sec-WebSocket-Extensions", offer)]).await;
        // Netty refuses an answer that asks it to forget, and Jetty does not listen.
        assert_eq!(client.extensions.as_deref(), Some(answer));
        let mut deflater = Deflater::new(bits);
        let mut lengths = Vec::new();
        for reference in 1..20 {
            let note = "the same words again and again, so that they are worth referring to";
            let ping = json!({"op": "ping", "ref": reference, "topics": note}).to_string();
            let ping = ping.replace(",\"topics\"", " ,\"topics\"");
            let stream = deflater.message(ping.as_bytes());
            lengths.push(stream.len());
            client.send(0x80 | RSV1 | 1, &stream).await;
            // It is refused for its member, by its number: so it was read.
            assert_eq!(client.until("error").await.json()["ref"], reference);
            if reference % 5 == 0 {
                // What comes as it is does not count.
                client.send(0x81, br#"{"op":"ping","ref":100}"#).await;
                client.until("pong").await;
                client.send(0x81, br#"{"op":"ping","ref":101}"#).await;
                client.until("pong").await;
            }
        }
        assert!(lengths[1] < lengths[0] / 2, "{lengths:?}");
    }
}

#[tokio::test]
async fn what_all_clients_sent_takes_a_bounded_room_and_who_comes_then_is_served_uncompressed() {
    let server = TestServer::with(|config| config.limits.inflate_bytes = 2 * 32 * 1024);
    let extensions = async |offer: &[(&str, &str)]| {
        let client = connect(&server, "?topic=a", offer).await;
        (client.extensions.clone(), client)
    };
    let (one, first) = extensions(&PLAIN_OFFER).await;
    let (two, _second) = extensions(&PLAIN_OFFER).await;
    assert!(one.is_some() && two.is_some());
    let (none, mut third) = extensions(&PLAIN_OFFER).await;
    assert_eq!(none, None);
    third.until("live").await;
    server.publish("a", &rows(30)).await;
    assert!(!third.until("event").await.is_compressed());
    // Who needs no room gets what it offers.
    let alone = "permessage-deflate; client_no_context_takeover";
    for offer in [alone.to_owned(), format!("permessage-deflate, {alone}")] {
        let (agreed, _) = extensions(&[("Sec-WebSocket-Extensions", &offer)]).await;
        assert!(agreed.expect("an agreement").contains("; client_no_context_takeover"), "{offer}");
    }
    drop(first);
    eventually("there is room again", async || extensions(&PLAIN_OFFER).await.0.is_some()).await;
}
