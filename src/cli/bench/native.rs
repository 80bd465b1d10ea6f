//! Fanfare's own dialect: WebSocket in JSON or CBOR, SSE, and the four ways to publish.

use std::io::Write;

use memchr::memmem;

use super::demand::Asking;
use super::dialect::{Answer, Dialect, Heard, Opening, Post, Transport, http_answer, upgrade};
use super::frames::{self, Kind, Op};
use super::load::{Protocol, Publish};
use super::response;
use super::target::Target;

/// Topics that still go into the query of a connection; more are subscribed in messages.
const TOPICS_IN_QUERY: usize = 32;
/// Topics of one such message.
const TOPICS_A_MESSAGE: usize = 500;

/// Fanfare, as a subscriber and a publisher see it.
#[derive(Debug)]
pub struct Native {
    /// Where the broker is subscribed at.
    pub target: Target,
    /// Where it is published at: the same, or another node of its cluster.
    pub publish_to: Target,
    /// The credential of subscribers.
    pub token: Option<String>,
    /// The credential of publishers.
    pub key: Option<String>,
    /// How subscribers are spoken to.
    pub protocol: Protocol,
    /// How events are published.
    pub publish: Publish,
    /// What each event carries beside its topic and data, as members of a JSON object.
    pub carried: String,
}

impl Dialect for Native {
    fn opening(&self, topics: &[String]) -> Opening {
        let mut request = Vec::new();
        let head = &mut request;
        if self.protocol == Protocol::Sse {
            self.ask(&self.target, head, "GET", &format!("/v1/sse?{}", query(topics)), &self.token);
            head.extend_from_slice(b"Accept: text/event-stream\r\n\r\n");
            let transport = Transport::EventStream;
            return Opening { request, transport, messages: Vec::new(), lives: 1 };
        }
        let in_query = if topics.len() <= TOPICS_IN_QUERY { topics } else { &[] };
        self.ask(&self.target, head, "GET", &format!("/v1/ws?{}", query(in_query)), &self.token);
        upgrade(head);
        let binary = self.protocol == Protocol::Cbor;
        if binary {
            head.extend_from_slice(b"Sec-WebSocket-Protocol: fanfare.v1+cbor\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let subscribe = if binary { subscribe_cbor } else { subscribe_json };
        let rest = topics[in_query.len()..].chunks(TOPICS_A_MESSAGE);
        let messages: Vec<_> = rest.zip(1..).map(|(topics, n)| subscribe(n, topics)).collect();
        let lives = messages.len() + usize::from(!in_query.is_empty());
        let transport = if binary { Transport::Binary } else { Transport::Text };
        Opening { request, transport, messages, lives }
    }

    fn hear(&self, message: &[u8], _topics: &[String], _reply: &mut Vec<u8>) -> Heard {
        let text = || String::from_utf8_lossy(message).into_owned();
        match self.protocol {
            Protocol::Sse if contains(message, b"event: fanfare.live") => Heard::Live,
            Protocol::Sse if contains(message, b"event: fanfare.bye") => Heard::Ended(text()),
            Protocol::Json if message.starts_with(br#"{"op":"live""#) => Heard::Live,
            Protocol::Json if message.starts_with(br#"{"op":"bye""#) => Heard::Ended(text()),
            Protocol::Json if message.starts_with(br#"{"op":"error""#) => Heard::Ended(text()),
            Protocol::Json if message.starts_with(br#"{"op":"gap""#) => {
                Heard::Ended("what was missed is not kept any more".into())
            }
            Protocol::Cbor if cbor_op(message, b"\x64live") => Heard::Live,
            Protocol::Cbor if cbor_op(message, b"\x63bye") => Heard::Ended(text()),
            Protocol::Cbor if cbor_op(message, b"\x65error") => Heard::Ended(text()),
            _ => Heard::Nothing,
        }
    }

    fn greeting(&self) -> Option<Vec<u8>> {
        if self.publish != Publish::WebSocket {
            return None;
        }
        let mut request = Vec::new();
        self.ask(&self.publish_to, &mut request, "GET", "/v1/ws", &self.key);
        upgrade(&mut request);
        request.extend_from_slice(b"\r\n");
        Some(request)
    }

    fn publish(&self, posts: &[Post<'_>], out: &mut Vec<u8>) {
        match self.publish {
            Publish::Single if !self.carried.is_empty() => {
                for post in posts {
                    let mut body = Vec::new();
                    self.members(&[*post], &mut body, b"");
                    self.post(out, "/v1/events", "application/json", &body);
                }
            }
            Publish::Single => {
                for Post { topic, data } in posts {
                    let path = format!("/v1/topics/{topic}/events");
                    self.post(out, &path, "application/json", data);
                }
            }
            Publish::Batch => {
                let mut body = br#"{"events":["#.to_vec();
                self.members(posts, &mut body, b",");
                body.extend_from_slice(b"]}");
                self.post(out, "/v1/events", "application/json", &body);
            }
            Publish::Ndjson => {
                let mut body = Vec::new();
                self.members(posts, &mut body, b"\n");
                self.post(out, "/v1/events", "application/x-ndjson", &body);
            }
            Publish::WebSocket => {
                for Post { topic, data } in posts {
                    let mut message =
                        format!(r#"{{"op":"publish","ref":1,"topic":"{topic}","data":"#)
                            .into_bytes();
                    message.extend_from_slice(data);
                    self.end(&mut message);
                    frames::write(out, Op::Text, &message);
                }
            }
        }
    }

    fn answer(&self, received: &[u8]) -> Result<Option<(Answer, usize)>, String> {
        if self.publish != Publish::WebSocket || received.starts_with(b"HTTP/") {
            return http_answer(received);
        }
        let Some((frame, length)) = frames::read(received)? else { return Ok(None) };
        let payload = frame.payload;
        let answer = match frame.kind {
            Kind::Ping => {
                let mut pong = Vec::new();
                frames::write(&mut pong, Op::Pong, payload);
                Answer::Reply(pong)
            }
            Kind::Pong => Answer::Nothing,
            Kind::Close => return Err(frames::reason(payload)),
            Kind::Data if payload.starts_with(br#"{"op":"ack""#) => Answer::Done,
            Kind::Data if payload.starts_with(br#"{"op":"welcome""#) => Answer::Done,
            Kind::Data if payload.starts_with(br#"{"op":"error""#) => {
                Answer::Refused(String::from_utf8_lossy(payload).into_owned())
            }
            Kind::Data => Answer::Nothing,
        };
        Ok(Some((answer, length)))
    }

    fn answers(&self, events: usize) -> usize {
        match self.publish {
            Publish::Batch | Publish::Ndjson => 1,
            Publish::Single | Publish::WebSocket => events,
        }
    }

    fn place(&self) -> Option<Vec<u8>> {
        let mut request = Vec::new();
        self.ask(&self.target, &mut request, "GET", "/v1/cursor", &self.key);
        request.extend_from_slice(b"\r\n");
        Some(request)
    }

    fn comeback(&self, asking: &Asking<'_>) -> Result<Opening, String> {
        let mut request = Vec::new();
        let query = asking.query(&cursor(asking.place)?);
        self.ask(&self.target, &mut request, "GET", &format!("/v1/ws?{query}"), &self.token);
        upgrade(&mut request);
        if asking.demand.is_compressed {
            request.extend_from_slice(
                b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n",
            );
        }
        request.extend_from_slice(b"\r\n");
        Ok(Opening { request, transport: Transport::Text, messages: Vec::new(), lives: 1 })
    }

    fn brings(&self, message: &[u8]) -> usize {
        usize::from(message.starts_with(br#"{"op":"event""#))
    }

    fn number(&self, message: &[u8]) -> Option<u64> {
        let id = message.strip_prefix(br#"{"op":"event","id":""#)?;
        let id = id.split(|byte| *byte == b'"').next()?;
        let number = id.rsplit(|byte| *byte == b'-').next()?;
        std::str::from_utf8(number).ok()?.parse().ok()
    }
}

/// The cursor in an answer.
fn cursor(answer: &[u8]) -> Result<String, String> {
    let body = response::response(answer)?.map_or(&[][..], |response| response.body);
    let body: serde_json::Value = serde_json::from_slice(body)
        .map_err(|_| format!("no cursor: {}", String::from_utf8_lossy(answer)))?;
    let cursor = body["cursor"].as_str().ok_or_else(|| format!("no cursor: {body}"))?;
    Ok(cursor.to_owned())
}

impl Native {
    /// Writes the head of a request, up to the lines that are its own.
    fn ask(
        &self,
        target: &Target,
        out: &mut Vec<u8>,
        method: &str,
        path: &str,
        credential: &Option<String>,
    ) {
        target.request(out, method, path);
        if let Some(credential) = credential {
            // Writing to a vector can't fail.
            _ = write!(out, "Authorization: Bearer {credential}\r\n");
        }
    }

    /// The events of a publish, as objects.
    fn members(&self, posts: &[Post<'_>], body: &mut Vec<u8>, between: &[u8]) {
        for (index, Post { topic, data }) in posts.iter().enumerate() {
            if index > 0 {
                body.extend_from_slice(between);
            }
            _ = write!(body, r#"{{"topic":"{topic}","data":"#);
            body.extend_from_slice(data);
            self.end(body);
        }
    }

    /// Ends an event behind its data.
    fn end(&self, event: &mut Vec<u8>) {
        if !self.carried.is_empty() {
            event.push(b',');
            event.extend_from_slice(self.carried.as_bytes());
        }
        event.push(b'}');
    }

    fn post(&self, out: &mut Vec<u8>, path: &str, media_type: &str, body: &[u8]) {
        self.ask(&self.publish_to, out, "POST", path, &self.key);
        _ = write!(out, "Content-Type: {media_type}\r\nContent-Length: {}\r\n\r\n", body.len());
        out.extend_from_slice(body);
    }
}

fn query(topics: &[String]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(topics.iter().map(|topic| ("topic", topic)));
    query.finish()
}

fn subscribe_json(reference: usize, topics: &[String]) -> Vec<u8> {
    let topics = topics.iter().map(|topic| format!("\"{topic}\"")).collect::<Vec<_>>().join(",");
    format!(r#"{{"op":"subscribe","ref":{reference},"topics":[{topics}]}}"#).into_bytes()
}

fn subscribe_cbor(reference: usize, topics: &[String]) -> Vec<u8> {
    let mut out = b"\xa3\x62op\x69subscribe\x63ref".to_vec();
    cbor_head(&mut out, 0, reference);
    out.extend_from_slice(b"\x66topics");
    cbor_head(&mut out, 4, topics.len());
    for topic in topics {
        cbor_head(&mut out, 3, topic.len());
        out.extend_from_slice(topic.as_bytes());
    }
    out
}

/// The head of a CBOR item whose argument has up to 16 bits.
fn cbor_head(out: &mut Vec<u8>, major: u8, argument: usize) {
    let [high, low] = (argument as u16).to_be_bytes();
    match argument {
        0..=23 => out.push(major << 5 | low),
        24..=255 => out.extend_from_slice(&[major << 5 | 24, low]),
        _ => out.extend_from_slice(&[major << 5 | 25, high, low]),
    }
}

/// Whether a CBOR message of the broker begins with this `op`, which always comes first.
fn cbor_op(message: &[u8], op: &[u8]) -> bool {
    let op_first = message.get(1..).and_then(|rest| rest.strip_prefix(b"\x62op"));
    op_first.is_some_and(|rest| rest.starts_with(op))
}

fn contains(message: &[u8], what: &[u8]) -> bool {
    memmem::find(message, what).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn native(protocol: Protocol, publish: Publish) -> Native {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let target = Target { path: "/x".into(), ..Target::at(address) };
        let (token, key) = (Some("T".into()), Some("K".into()));
        let publish_to = target.clone();
        let carried = String::new();
        Native { target, publish_to, token, key, protocol, publish, carried }
    }

    fn topics(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("t.{n}")).collect()
    }

    #[test]
    fn few_topics_are_subscribed_in_the_query_and_many_in_messages() {
        let native = native(Protocol::Json, Publish::Single);
        let opening = native.opening(&topics(2));
        let request = String::from_utf8(opening.request).unwrap();
        assert!(request.starts_with("GET /x/v1/ws?topic=t.0&topic=t.1 HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nAuthorization: Bearer T\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n"), "{request}");
        assert_eq!((opening.messages.len(), opening.lives), (0, 1));

        let opening = native.opening(&topics(1_200));
        assert_eq!((opening.messages.len(), opening.lives), (3, 3));
        let first: serde_json::Value = serde_json::from_slice(&opening.messages[0]).unwrap();
        assert_eq!((&first["op"], &first["ref"]), (&"subscribe".into(), &1.into()));
        assert_eq!(first["topics"].as_array().unwrap().len(), 500);
    }

    #[test]
    fn a_subscribe_in_cbor_says_what_the_one_in_json_does() {
        let topics = topics(300);
        let cbor: serde_json::Value =
            ciborium::from_reader(&subscribe_cbor(24, &topics)[..]).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&subscribe_json(24, &topics)).unwrap();
        assert_eq!(cbor, json);
    }

    #[test]
    fn what_the_broker_says_is_understood_in_each_form() {
        for (protocol, message, heard) in [
            (Protocol::Json, &br#"{"op":"live","ref":0}"#[..], "live"),
            (Protocol::Json, br#"{"op":"cursor"}"#, ""),
            (Protocol::Json, br#"{"op":"bye","code":"restart"}"#, "ended"),
            (Protocol::Cbor, b"\xa2\x62op\x64live", "live"),
            (Protocol::Cbor, b"\xa2\x62op\x63bye", "ended"),
            (Protocol::Sse, b"event: fanfare.live\ndata: {}\n\n", "live"),
            (Protocol::Sse, b": welcome\n\n", ""),
        ] {
            let native = native(protocol, Publish::Single);
            let got = match native.hear(message, &[], &mut Vec::new()) {
                Heard::Live => "live",
                Heard::Ended(_) => "ended",
                Heard::Nothing => "",
            };
            assert_eq!(got, heard, "{}", String::from_utf8_lossy(message));
        }
    }

    #[test]
    fn each_way_to_publish_says_topic_and_data() {
        let posts = [Post { topic: "a", data: b"1" }, Post { topic: "b", data: b"2" }];
        let bytes = |publish| {
            let mut out = Vec::new();
            native(Protocol::Json, publish).publish(&posts, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        let single = bytes(Publish::Single);
        assert!(single.starts_with("POST /x/v1/topics/a/events HTTP/1.1\r\n"), "{single}");
        assert!(single.contains("Bearer K") && single.ends_with("\r\n\r\n2"), "{single}");
        let expected = r#"{"events":[{"topic":"a","data":1},{"topic":"b","data":2}]}"#;
        assert!(bytes(Publish::Batch).ends_with(&format!("Length: 58\r\n\r\n{expected}")));
        let expected = "{\"topic\":\"a\",\"data\":1}\n{\"topic\":\"b\",\"data\":2}";
        assert!(bytes(Publish::Ndjson).ends_with(expected));
    }

    #[test]
    fn what_events_carry_is_said_by_each_way_to_publish() {
        for publish in [Publish::Single, Publish::Batch, Publish::Ndjson] {
            let carried = r#""ttl_ms":5"#.to_owned();
            let native = Native { carried, ..native(Protocol::Json, publish) };
            let mut out = Vec::new();
            native.publish(&[Post { topic: "a", data: b"1" }], &mut out);
            let said = String::from_utf8_lossy(&out).into_owned();
            assert!(said.starts_with("POST /x/v1/events HTTP/1.1\r\n"), "{said}");
            assert!(said.contains(r#"{"topic":"a","data":1,"ttl_ms":5}"#), "{said}");
        }
    }

    #[test]
    fn answers_over_websocket_are_told_apart() {
        let native = native(Protocol::Json, Publish::WebSocket);
        let frame = |text: &[u8]| [&[0x81, text.len() as u8], text].concat();
        let answer = |bytes: &[u8]| native.answer(bytes).unwrap().unwrap().0;
        assert_eq!(answer(b"HTTP/1.1 101 S\r\n\r\n"), Answer::Nothing);
        assert_eq!(answer(&frame(br#"{"op":"welcome"}"#)), Answer::Done);
        assert_eq!(answer(&frame(br#"{"op":"ack","ref":1}"#)), Answer::Done);
        assert!(matches!(answer(&frame(br#"{"op":"error"}"#)), Answer::Refused(_)));
        assert!(matches!(answer(&[0x89, 0]), Answer::Reply(_)));
        assert!(native.answer(&[0x88, 0]).is_err());
    }
}
