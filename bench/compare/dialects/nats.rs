//! The NATS client protocol: over WebSocket for subscribers, over TCP for publishers.
//!
//! nats-server has no HTTP publish. `verbose` makes it acknowledge each publish with `+OK`, which is
//! the nearest thing to an answer over HTTP; it is cheaper than one.

use std::io::Write;

use fanfare::cli::bench::{Answer, Dialect, Heard, Opening, Post, Target, Transport};

use super::websocket;

/// nats-server.
pub struct Nats(pub Target);

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
        match message {
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
}
