//! The limit that brokers are compared with: one thread, one epoll, one write a frame.
//!
//! No framework, no history, no check of anything: what is left is what the system itself asks for a
//! WebSocket message or an HTTP request. Events have the form that Fanfare sends. Only a broker that
//! sends several messages in one write can cost less.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(0);

/// The most fields of a head.
const MAX_FIELDS: usize = 64;

/// All connections, by their tokens, and who listens to what.
struct Limit {
    poll: Poll,
    listener: TcpListener,
    connections: HashMap<Token, Connection>,
    subscribers_by_topic: HashMap<String, Vec<Token>>,
    next: usize,
    published: u64,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// What the system would not take at once.
    unsent: Vec<u8>,
    is_subscriber: bool,
}

/// A whole request, as far as it matters here.
struct Request {
    is_post: bool,
    path: String,
    /// What it brings where it asks for a WebSocket.
    key: Option<String>,
    body: Vec<u8>,
}

/// Serves on a port of this machine until the process is ended.
pub fn serve(port: u16) -> io::Result<()> {
    let poll = Poll::new()?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (connections, subscribers_by_topic) = (HashMap::new(), HashMap::new());
    let mut limit =
        Limit { poll, listener, connections, subscribers_by_topic, next: 1, published: 0 };
    let mut events = Events::with_capacity(1_024);
    let mut buffer = vec![0; 64 << 10];
    loop {
        limit.poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => limit.accept()?,
                token => limit.ready(token, &mut buffer),
            }
        }
    }
}

impl Limit {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let token = Token(self.next);
            self.next += 1;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, token, interest)?;
            let (received, unsent) = (Vec::new(), Vec::new());
            let connection = Connection { stream, received, unsent, is_subscriber: false };
            self.connections.insert(token, connection);
        }
    }

    fn ready(&mut self, token: Token, buffer: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        connection.send(&[]);
        let mut open = true;
        loop {
            match connection.stream.read(buffer) {
                Ok(0) => open = false,
                // Whatever a subscriber says makes no difference here.
                Ok(_) if connection.is_subscriber => continue,
                Ok(length) => {
                    connection.received.extend_from_slice(&buffer[..length]);
                    continue;
                }
                Err(error) => open &= error.kind() == io::ErrorKind::WouldBlock,
            }
            break;
        }
        while let Some(request) = self.request(token) {
            self.answer(token, &request);
        }
        if !open {
            self.connections.remove(&token);
            self.subscribers_by_topic.values_mut().for_each(|all| all.retain(|one| *one != token));
        }
    }

    /// Takes a whole request out of what was received.
    fn request(&mut self, token: Token) -> Option<Request> {
        let received = &mut self.connections.get_mut(&token)?.received;
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut head = httparse::Request::new(&mut fields);
        let Ok(httparse::Status::Complete(begin)) = head.parse(received) else { return None };
        let length =
            field(head.headers, "content-length").map_or(Some(0), |text| text.parse().ok());
        let body = received.get(begin..begin + length?)?.to_vec();
        let request = Request {
            is_post: head.method == Some("POST"),
            path: head.path.unwrap_or_default().to_owned(),
            key: field(head.headers, "sec-websocket-key").map(str::to_owned),
            body,
        };
        received.drain(..begin + request.body.len());
        Some(request)
    }

    fn answer(&mut self, token: Token, request: &Request) {
        let path = &request.path;
        if request.is_post {
            let topic = path.trim_start_matches("/v1/topics/").trim_end_matches("/events");
            let receipt = self.publish(topic, &request.body);
            self.send(token, receipt.as_bytes());
        } else if let Some(key) = &request.key {
            let accept = actix_http::ws::hash_key(key.as_bytes());
            let accept = String::from_utf8_lossy(&accept);
            let mut answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            )
            .into_bytes();
            frame(&mut answer, br#"{"op":"welcome","session":"limit","heartbeat":25}"#);
            frame(&mut answer, br#"{"op":"live","ref":0,"cursor":"limit-1-1"}"#);
            for topic in path.split(['?', '&']).filter_map(|pair| pair.strip_prefix("topic=")) {
                self.subscribers_by_topic.entry(topic.to_owned()).or_default().push(token);
            }
            if let Some(connection) = self.connections.get_mut(&token) {
                connection.is_subscriber = true;
            }
            self.send(token, &answer);
        } else {
            self.send(token, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    }

    /// Sends an event to each subscriber, one write each, and makes the answer to its publisher.
    fn publish(&mut self, topic: &str, data: &[u8]) -> String {
        self.published += 1;
        let members = format!(
            r#""id":"limit-1-{}","topic":"{topic}","time":"2026-01-01T00:00:00.000Z""#,
            self.published
        );
        let mut event = format!(r#"{{"op":"event",{members},"data":"#).into_bytes();
        event.extend_from_slice(data);
        event.push(b'}');
        let mut bytes = Vec::with_capacity(event.len() + 4);
        frame(&mut bytes, &event);
        for token in self.subscribers_by_topic.get(topic).into_iter().flatten() {
            if let Some(connection) = self.connections.get_mut(token) {
                connection.send(&bytes);
            }
        }
        let body = format!("{{{members}}}");
        format!(
            "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn send(&mut self, token: Token, bytes: &[u8]) {
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.send(bytes);
        }
    }
}

impl Connection {
    /// Writes at once what the system takes; a connection that broke is noticed when it is read.
    fn send(&mut self, bytes: &[u8]) {
        if self.unsent.is_empty() {
            let sent = if bytes.is_empty() { 0 } else { self.stream.write(bytes).unwrap_or(0) };
            self.unsent.extend_from_slice(&bytes[sent..]);
            return;
        }
        self.unsent.extend_from_slice(bytes);
        let sent = self.stream.write(&self.unsent).unwrap_or(0);
        self.unsent.drain(..sent);
    }
}

/// The value of a field.
fn field<'a>(fields: &[httparse::Header<'a>], name: &str) -> Option<&'a str> {
    let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(field.value).ok()
}

/// Appends a text frame of up to 65,535 bytes.
fn frame(out: &mut Vec<u8>, payload: &[u8]) {
    let length = (payload.len() as u16).to_be_bytes();
    match payload.len() {
        0..=125 => out.extend_from_slice(&[0x81, length[1]]),
        _ => out.extend_from_slice(&[0x81, 126, length[0], length[1]]),
    }
    out.extend_from_slice(payload);
}
