//! The Pusher protocol, version 7, and its HTTP API: Sockudo and Soketi.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use fanfare::cli::bench::{Answer, Dialect, Heard, Opening, Post, Target, http_answer};
use md5::{Digest, Md5};

use super::{post, websocket};

/// A server of the Pusher protocol with the one application that `peers` configures.
pub struct Pusher(pub Target);

impl Pusher {
    /// The application's id.
    pub const APP: &str = "bench";
    /// Its key.
    pub const KEY: &str = "bench-key";
    /// Its secret.
    pub const SECRET: &str = "bench-secret";

    /// The path of a publish, signed as the HTTP API asks for.
    fn signed_path(body: &[u8]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let digest = hex(&Md5::digest(body));
        let path = format!("/apps/{}/events", Self::APP);
        let key = Self::KEY;
        let query =
            format!("auth_key={key}&auth_timestamp={now}&auth_version=1.0&body_md5={digest}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, Self::SECRET.as_bytes());
        let signature = hmac::sign(&key, format!("POST\n{path}\n{query}").as_bytes());
        format!("{path}?{query}&auth_signature={}", hex(signature.as_ref()))
    }
}

impl Dialect for Pusher {
    fn opening(&self, topics: &[String]) -> Opening {
        let subscribe = |topic: &String| {
            serde_json::json!({"event": "pusher:subscribe", "data": {"channel": topic}})
                .to_string()
                .into_bytes()
        };
        let messages: Vec<_> = topics.iter().map(subscribe).collect();
        let path = format!("/app/{}?protocol=7&client=bench&version=1.0", Self::KEY);
        let lives = messages.len();
        websocket(&self.0, &path, messages, lives)
    }

    fn hear(&self, message: &[u8], _topics: &[String], reply: &mut Vec<u8>) -> Heard {
        let says = |what: &[u8]| memchr::memmem::find(message, what).is_some();
        if says(b"subscription_succeeded") {
            return Heard::Live;
        }
        if says(b"pusher:ping") {
            reply.extend_from_slice(br#"{"event":"pusher:pong","data":{}}"#);
        }
        if says(b"pusher:error") {
            return Heard::Ended(String::from_utf8_lossy(message).into_owned());
        }
        Heard::Nothing
    }

    fn greeting(&self) -> Option<Vec<u8>> {
        None
    }

    fn publish(&self, posts: &[Post<'_>], out: &mut Vec<u8>) {
        for Post { topic, data } in posts {
            let data = String::from_utf8_lossy(data);
            let body = serde_json::json!({"name": "event", "channel": topic, "data": data});
            let body = body.to_string().into_bytes();
            let lines = "Content-Type: application/json\r\n";
            post(&self.0, &Self::signed_path(&body), lines, &body, out);
        }
    }

    fn answer(&self, received: &[u8]) -> Result<Option<(Answer, usize)>, String> {
        http_answer(received)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
