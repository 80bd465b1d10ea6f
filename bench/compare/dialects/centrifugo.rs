//! Centrifugo: its bidirectional JSON protocol, and its HTTP API.

use fanfare::cli::bench::{Answer, Dialect, Heard, Opening, Post, Target, http_answer};

use super::{post, websocket};

/// A Centrifugo server, version 6.
pub struct Centrifugo(pub Target);

impl Centrifugo {
    /// The key of its HTTP API.
    pub const KEY: &str = "bench-key";
}

impl Dialect for Centrifugo {
    fn opening(&self, topics: &[String]) -> Opening {
        let mut messages = vec![br#"{"id":1,"connect":{}}"#.to_vec()];
        for (topic, id) in topics.iter().zip(2..) {
            let subscribe = format!(r#"{{"id":{id},"subscribe":{{"channel":"{topic}"}}}}"#);
            messages.push(subscribe.into_bytes());
        }
        websocket(&self.0, "/connection/websocket", messages, topics.len())
    }

    fn hear(&self, message: &[u8], _topics: &[String], reply: &mut Vec<u8>) -> Heard {
        let says = |what: &[u8]| memchr::memmem::find(message, what).is_some();
        if message == b"{}" {
            // Its ping, and the answer to it.
            reply.extend_from_slice(b"{}");
        }
        if says(br#""error""#) || says(br#""disconnect""#) {
            return Heard::Ended(String::from_utf8_lossy(message).into_owned());
        }
        if says(br#""subscribe""#) { Heard::Live } else { Heard::Nothing }
    }

    fn greeting(&self) -> Option<Vec<u8>> {
        None
    }

    fn publish(&self, posts: &[Post<'_>], out: &mut Vec<u8>) {
        for Post { topic, data } in posts {
            let mut body = format!(r#"{{"channel":"{topic}","data":"#).into_bytes();
            body.extend_from_slice(data);
            body.push(b'}');
            let lines = format!("X-API-Key: {}\r\nContent-Type: application/json\r\n", Self::KEY);
            post(&self.0, "/api/publish", &lines, &body, out);
        }
    }

    fn answer(&self, received: &[u8]) -> Result<Option<(Answer, usize)>, String> {
        let answer = http_answer(received)?;
        // An error is an answer with status 200.
        Ok(answer.map(|(answer, length)| {
            let body = &received[..length];
            match memchr::memmem::find(body, br#"{"error""#) {
                Some(at) => (Answer::Refused(String::from_utf8_lossy(&body[at..]).into()), length),
                None => (answer, length),
            }
        }))
    }
}
