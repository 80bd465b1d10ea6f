//! Centrifugo: its bidirectional JSON protocol, its event streams that go one way, and its HTTP API.

use fanfare::cli::bench::{
    Answer, Asking, Dialect, Heard, Opening, Post, Protocol, Target, http_answer,
};

use super::{event_stream, post, websocket};

/// Subscriptions that are asked for in one message.
const SUBSCRIPTIONS_A_MESSAGE: usize = 250;

/// A Centrifugo server, version 6.
pub struct Centrifugo {
    pub target: Target,
    pub protocol: Protocol,
}

impl Centrifugo {
    /// The key of its HTTP API.
    pub const KEY: &str = "bench-key";
}

impl Dialect for Centrifugo {
    fn opening(&self, topics: &[String]) -> Opening {
        if self.protocol == Protocol::Sse {
            let topics = topics.iter().map(|topic| format!("\"{topic}\":{{}}"));
            let subscribe = format!(r#"{{"subs":{{{}}}}}"#, topics.collect::<Vec<_>>().join(","));
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("cf_connect", &subscribe)
                .finish();
            let opening = event_stream(&self.target, &format!("/connection/uni_sse?{query}"));
            return Opening { lives: 1, ..opening };
        }
        let mut messages = vec![br#"{"id":1,"connect":{}}"#.to_vec()];
        for (topic, id) in topics.iter().zip(2..) {
            let subscribe = format!(r#"{{"id":{id},"subscribe":{{"channel":"{topic}"}}}}"#);
            messages.push(subscribe.into_bytes());
        }
        websocket(&self.target, "/connection/websocket", messages, topics.len())
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
        let live: &[u8] = match self.protocol {
            Protocol::Sse => br#""connect""#,
            Protocol::Json | Protocol::Cbor => br#""subscribe""#,
        };
        if says(live) { Heard::Live } else { Heard::Nothing }
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
            post(&self.target, "/api/publish", &lines, &body, out);
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

    fn comeback(&self, asking: &Asking<'_>) -> Result<Opening, String> {
        // All that a channel keeps, or its newest message: which of them is said by the server's settings.
        let subscribe = |(topic, id): (&String, usize)| {
            format!(r#"{{"id":{id},"subscribe":{{"channel":"{topic}","recover":true}}}}"#)
        };
        let topics = asking.topics();
        let commands: Vec<_> = topics.iter().zip(2..).map(subscribe).collect();
        let mut messages = vec![br#"{"id":1,"connect":{}}"#.to_vec()];
        let subscribes = commands.chunks(SUBSCRIPTIONS_A_MESSAGE);
        messages.extend(subscribes.map(|commands| commands.join("\n").into_bytes()));
        Ok(websocket(&self.target, "/connection/websocket", messages, 0))
    }
}
