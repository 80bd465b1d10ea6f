//! The Mercure protocol: SSE, and publishing by form with a JSON Web Token.

use fanfare::cli::bench::{Answer, Dialect, Heard, Opening, Post, Target, http_answer};

use super::{event_stream, post};

/// A Mercure hub.
pub struct Mercure {
    pub target: Target,
    /// The token of publishers.
    pub token: String,
}

impl Dialect for Mercure {
    fn opening(&self, topics: &[String]) -> Opening {
        let topics = topics.join("&topic=");
        event_stream(&self.target, &format!("/.well-known/mercure?topic={topics}"))
    }

    fn hear(&self, _message: &[u8], _topics: &[String], _reply: &mut Vec<u8>) -> Heard {
        Heard::Nothing
    }

    fn greeting(&self) -> Option<Vec<u8>> {
        None
    }

    fn publish(&self, posts: &[Post<'_>], out: &mut Vec<u8>) {
        for Post { topic, data } in posts {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.append_pair("topic", topic);
            form.append_pair("data", &String::from_utf8_lossy(data));
            let lines = format!(
                "Authorization: Bearer {}\r\nContent-Type: application/x-www-form-urlencoded\r\n",
                self.token
            );
            let body = form.finish();
            post(&self.target, "/.well-known/mercure", &lines, body.as_bytes(), out);
        }
    }

    fn answer(&self, received: &[u8]) -> Result<Option<(Answer, usize)>, String> {
        http_answer(received)
    }
}
