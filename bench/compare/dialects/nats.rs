//! The NATS client protocol: over WebSocket for subscribers, over TCP for publishers.
//!
//! nats-server has no HTTP publish. `verbose` makes it acknowledge each publish with `+OK`, which is
//! the nearest thing to an answer over HTTP; it is cheaper than one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use fanfare::cli::bench::{
    Answer, Asking, Dialect, Heard, HerdKind, Opening, Post, Target, Transport,
};

use super::websocket;

/// nats-server.
pub struct Nats(pub Target);

impl Nats {
    /// Makes the stream that JetStream keeps events in.
    pub fn make_stream(address: SocketAddr, storage: &str) -> Result<(), String> {
        let stream = serde_json::json!({
            "name": "bench", "subjects": ["bench.>"], "storage": storage, "num_replicas": 1,
            "retention": "limits", "discard": "old", "max_consumers": -1, "max_msgs": -1, "max_bytes": -1,
        });
        let asked = Self::request("$JS.API.STREAM.CREATE.bench", "_INBOX.made", &stream);
        let made = || {
            let mut server = TcpStream::connect(address)?;
            server.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(server, "CONNECT {{\"verbose\":false}}\r\nSUB _INBOX.made 1\r\n{asked}")?;
            let (mut said, mut buffer) = (String::new(), [0; 4096]);
            while !said.contains("stream_create_response") || !said.ends_with("}\r\n") {
                match server.read(&mut buffer)? {
                    0 => break,
                    length => said += &String::from_utf8_lossy(&buffer[..length]),
                }
            }
            std::io::Result::Ok(said)
        };
        let said = made().map_err(|error| format!("no stream was made: {error}"))?;
        if said.contains("\"error\"") || said.contains("-ERR") { Err(said) } else { Ok(()) }
    }

    /// A request whose answer comes to an inbox.
    fn request(subject: &str, inbox: &str, body: &serde_json::Value) -> String {
        let body = body.to_string();
        format!("PUB {subject} {inbox} {}\r\n{body}\r\n", body.len())
    }
}

impl Dialect for Nats {
    fn opening(&self, topics: &[String]) -> Opening {
        let mut message = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"bench\",\
                            \"version\":\"1\",\"protocol\":1}\r\n"
            .to_vec();
        for (topic, id) in topics.iter().zip(1..) {
            write!(message, "SUB {topic} {id}\r\n").expect("room in memory");
        }
        message.extend_from_slice(b"PING\r\n");
        let opening = websocket(&self.0, "/", vec![message], 1);
        Opening { transport: Transport::Binary, ..opening }
    }

    fn hear(&self, message: &[u8], _topics: &[String], reply: &mut Vec<u8>) -> Heard {
        if message.starts_with(b"PING") {
            reply.extend_from_slice(b"PONG\r\n");
        }
        // JetStream waits until its client has come so far.
        if let Some(at) = memchr::memmem::find(message, b"$JS.FC.") {
            let subject = message[at..].split(|byte| byte.is_ascii_whitespace()).next();
            reply.extend_from_slice(b"PUB ");
            reply.extend_from_slice(subject.unwrap_or_default());
            reply.extend_from_slice(b" 0\r\n\r\n");
        }
        match message {
            _ if memchr::memmem::find(message, br#"_response","error":"#).is_some() => {
                Heard::Ended(String::from_utf8_lossy(message).into_owned())
            }
            [b'-', ..] => Heard::Ended(String::from_utf8_lossy(message).into_owned()),
            _ if memchr::memmem::find(message, b"PONG\r\n").is_some() => Heard::Live,
            _ => Heard::Nothing,
        }
    }

    fn greeting(&self) -> Option<Vec<u8>> {
        let connect = "CONNECT {\"verbose\":true,\"pedantic\":false,\"lang\":\"bench\",\
                       \"version\":\"1\",\"protocol\":1}\r\n";
        Some(connect.into())
    }

    fn publish(&self, posts: &[Post<'_>], out: &mut Vec<u8>) {
        for Post { topic, data } in posts {
            write!(out, "PUB {topic} {}\r\n", data.len()).expect("room in memory");
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        }
    }

    fn answer(&self, received: &[u8]) -> Result<Option<(Answer, usize)>, String> {
        let Some(end) = memchr::memmem::find(received, b"\r\n") else { return Ok(None) };
        let answer = match &received[..end] {
            b"+OK" => Answer::Done,
            b"PING" => Answer::Reply(b"PONG\r\n".to_vec()),
            [b'-', reason @ ..] => Answer::Refused(String::from_utf8_lossy(reason).into_owned()),
            _ => Answer::Nothing,
        };
        Ok(Some((answer, end + 2)))
    }

    fn comeback(&self, asking: &Asking<'_>) -> Result<Opening, String> {
        let Asking { demand, prefix, client, .. } = asking;
        let policy = match demand.kind {
            HerdKind::Resume => "all",
            HerdKind::Snapshot => "last_per_subject",
            HerdKind::Latest | HerdKind::Last => return Err("it has no such thing".into()),
        };
        let filter = match demand.topics {
            1 => demand.topic(prefix, 0),
            _ => format!("{prefix}.>"),
        };
        // What its clients call an ordered consumer.
        let (inbox, answer) = (format!("_INBOX.{client}"), format!("_INBOX.{client}.made"));
        let consumer = serde_json::json!({"stream_name": "bench", "config": {
            "deliver_subject": inbox, "deliver_policy": policy, "filter_subject": filter,
            "ack_policy": "none", "max_deliver": 1, "flow_control": true,
            "idle_heartbeat": 5_000_000_000_u64, "mem_storage": true, "num_replicas": 1,
        }});
        let asked = Self::request("$JS.API.CONSUMER.CREATE.bench", &answer, &consumer);
        let message = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\"lang\":\"bench\",\
             \"version\":\"1\",\"protocol\":1}}\r\nSUB {inbox} 1\r\nSUB {answer} 2\r\n{asked}"
        );
        let opening = websocket(&self.0, "/", vec![message.into_bytes()], 0);
        Ok(Opening { transport: Transport::Binary, ..opening })
    }
}
