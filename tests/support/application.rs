//! An application that notices are posted to.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_STANDARD, Engine};
use fanfare::config::{Hidden, Webhook, WebhookSecret};
use fanfare::model::{NoticeKind, Pattern};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What notices are signed with.
pub const SECRET: &[u8] = b"twenty-four bytes or more";

/// An application that takes what is posted.
pub struct Application {
    pub url: String,
    /// How many requests to refuse before one is taken.
    refusals: Mutex<usize>,
    taken: Mutex<Vec<Value>>,
}

impl Application {
    pub async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook?key=hunter2", listener.local_addr().expect("an address"));
        let application =
            Arc::new(Self { url, refusals: Mutex::default(), taken: Mutex::default() });
        let taking = application.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(taking.clone().serve(stream));
            }
        });
        application
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut received = Vec::new();
        loop {
            let head = received.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(head) = head {
                let text = String::from_utf8(received[..head].to_vec()).expect("a head");
                let header = |name: &str| {
                    let lines = text.lines().filter_map(|line| line.split_once(": "));
                    let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.next().expect("the header").1.to_owned()
                };
                let length: usize = header("content-length").parse().expect("a length");
                if received.len() >= head + 4 + length {
                    let body = received[head + 4..head + 4 + length].to_vec();
                    received.drain(..head + 4 + length);
                    let status = self.take(&header, &body);
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                    continue;
                }
            }
            let mut bytes = [0; 4_096];
            match stream.read(&mut bytes).await {
                Ok(read @ 1..) => received.extend_from_slice(&bytes[..read]),
                _ => return,
            }
        }
    }

    fn take(&self, header: &dyn Fn(&str) -> String, body: &[u8]) -> &'static str {
        let (id, seconds) = (header("webhook-id"), header("webhook-timestamp"));
        let signature = header("webhook-signature");
        let tag = BASE64_STANDARD.decode(signature.strip_prefix("v1,").expect("a version"));
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
        let signed = [id.as_bytes(), b".", seconds.as_bytes(), b".", body].concat();
        hmac::verify(&key, &signed, &tag.expect("base64")).expect("the signature is right");
        let mut refusals = self.refusals.lock().expect("no panic while it was held");
        if *refusals > 0 {
            *refusals -= 1;
            return "503 Later";
        }
        let body: Value = serde_json::from_slice(body).expect("JSON");
        let events = body["events"].as_array().expect("events").clone();
        self.taken.lock().expect("no panic while it was held").extend(events);
        "204 Taken"
    }

    pub fn refuse(&self, times: usize) {
        *self.refusals.lock().expect("no panic while it was held") = times;
    }

    pub fn taken(&self) -> Vec<Value> {
        self.taken.lock().expect("no panic while it was held").clone()
    }

    /// The users of whom some kind of notice was taken, in the order in which they came, each once.
    pub fn users(&self, kind: NoticeKind) -> Vec<String> {
        let (mut seen, mut users) = (BTreeSet::new(), Vec::new());
        for event in self.taken().iter().filter(|event| event["type"] == kind.name()) {
            if seen.insert(event["id"].as_str().expect("an id").to_owned()) {
                users.push(event["data"]["user"].as_str().unwrap_or_default().to_owned());
            }
        }
        users
    }

    pub fn hook(&self, events: &[NoticeKind]) -> Webhook {
        Webhook {
            name: "application".to_owned(),
            url: Hidden(self.url.clone()),
            secret: WebhookSecret(SECRET.to_vec()),
            events: events.to_vec(),
            topics: vec![Pattern::parse("room.>").expect("a pattern")],
        }
    }
}
