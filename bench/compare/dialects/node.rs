//! The two small servers of `bench/peers`, on `ws` and on socket.io (Engine.IO 4, Socket.IO 5).

use fanfare::cli::bench::{Answer, Dialect, Heard, Opening, Post, Target, http_answer};

use super::{post, websocket};

/// The server on `ws`.
pub struct Ws(pub Target);

impl Dialect for Ws {
    fn opening(&self, topics: &[String]) -> Opening {
        websocket(&self.0, &format!("/?topic={}", topics.join("&topic=")), Vec::new(), 1)
    }

    fn hear(&self, message: &[u8], _topics: &[String], _reply: &mut Vec<u8>) -> Heard {
        if message == b"live" { Heard::Live } else { Heard::Nothing }
    }

    fn greeting(&self) -> Option<Vec<u8>> {
        None
    }

    fn publish(&self, posts: &[Post<'_>], out: &mut Vec<u8>) {
        publish(&self.0, posts, out);
    }

    fn answer(&self, received: &[u8]) -> Result<Option<(Answer, usize)>, String> {
        http_answer(received)
    }
}

/// The server on socket.io.
pub struct SocketIo(pub Target);

impl Dialect for SocketIo {
    fn opening(&self, _topics: &[String]) -> Opening {
        websocket(&self.0, "/socket.io/?EIO=4&transport=websocket", Vec::new(), 1)
    }

    fn hear(&self, message: &[u8], topics: &[String], reply: &mut Vec<u8>) -> Heard {
        match message {
            [b'0', ..] => reply.extend_from_slice(b"40"),
            [b'2'] => reply.push(b'3'),
            [b'4', b'0', ..] => {
                let topics = serde_json::json!(["subscribe", topics]);
                reply.extend_from_slice(format!("42{topics}").as_bytes());
            }
            [b'4', b'4', ..] => return Heard::Ended(String::from_utf8_lossy(message).into_owned()),
            _ if message.starts_with(br#"42["live""#) => return Heard::Live,
            _ => {}
        }
        Heard::Nothing
    }

    fn greeting(&self) -> Option<Vec<u8>> {
        None
    }

    fn publish(&self, posts: &[Post<'_>], out: &mut Vec<u8>) {
        publish(&self.0, posts, out);
    }

    fn answer(&self, received: &[u8]) -> Result<Option<(Answer, usize)>, String> {
        http_answer(received)
    }
}

fn publish(target: &Target, posts: &[Post<'_>], out: &mut Vec<u8>) {
    for Post { topic, data } in posts {
        post(target, &format!("/publish/{topic}"), "Content-Type: application/json\r\n", data, out);
    }
}
