//! nchan: a channel has one URL to subscribe and one to publish.

use fanfare::cli::bench::{
    Answer, Asking, Dialect, Heard, Opening, Post, Protocol, Target, http_answer,
};

use super::{event_stream, post, websocket};

/// nginx with nchan, as `peers/nchan.rs` configures it.
pub struct Nchan {
    pub target: Target,
    pub protocol: Protocol,
}

impl Dialect for Nchan {
    fn opening(&self, topics: &[String]) -> Opening {
        // A subscriber of several channels names them all in its path; here there is one.
        let path = format!("/sub/{}", topics.join(","));
        match self.protocol {
            Protocol::Sse => event_stream(&self.target, &path),
            Protocol::Json | Protocol::Cbor => websocket(&self.target, &path, Vec::new(), 0),
        }
    }

    fn hear(&self, _message: &[u8], _topics: &[String], _reply: &mut Vec<u8>) -> Heard {
        Heard::Nothing
    }

    fn greeting(&self) -> Option<Vec<u8>> {
        None
    }

    fn publish(&self, posts: &[Post<'_>], out: &mut Vec<u8>) {
        for Post { topic, data } in posts {
            let lines = "Content-Type: application/json\r\n";
            post(&self.target, &format!("/pub/{topic}"), lines, data, out);
        }
    }

    fn answer(&self, received: &[u8]) -> Result<Option<(Answer, usize)>, String> {
        http_answer(received)
    }

    fn comeback(&self, asking: &Asking<'_>) -> Result<Opening, String> {
        // The location begins with the oldest message.
        Ok(self.opening(&asking.topics()))
    }
}
