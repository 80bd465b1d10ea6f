//! What comes out of a connection: the head of an answer, then frames, blocks of an event stream, or
//! a body. As little of HTTP/1.1, RFC 6455 and Server-Sent Events as our own broker needs.

use serde_json::Value;

/// One thing that the broker said.
#[derive(Debug, Clone, PartialEq)]
pub enum Word {
    /// An answer began.
    Status(u16),
    /// The body of an answer that is no stream.
    Body(Value),
    /// A message; of an event stream too, with `op` added.
    Message(Value),
    /// RFC 6455, to be answered with the same.
    Ping(Vec<u8>),
    /// The broker hung up in order; WebSocket says why.
    Closed(Option<u16>),
}

/// How what follows the head is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Head,
    Frames,
    Chunks,
    Length(usize),
}

/// Reads what comes out of one connection.
#[derive(Debug)]
pub struct Reader {
    unread: Vec<u8>,
    /// Out of chunks, as far as it is not a whole block.
    text: Vec<u8>,
    form: Form,
    is_stream: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self { unread: Vec::new(), text: Vec::new(), form: Form::Head, is_stream: false }
    }
}

impl Reader {
    /// Takes what came.
    pub fn take(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// The next word, if it is there as a whole.
    pub fn next(&mut self) -> Option<Word> {
        match self.form {
            Form::Head => self.head(),
            Form::Frames => self.frame(),
            Form::Chunks => self.block(),
            Form::Length(length) => {
                let body = self.split(length)?;
                if self.is_stream {
                    // A stream that was over before it began.
                    self.text = body;
                    self.form = Form::Chunks;
                    self.unread = b"0\r\n\r\n".to_vec();
                    return self.block();
                }
                self.form = Form::Head;
                Some(Word::Body(serde_json::from_slice(&body).unwrap_or_else(|_| {
                    Value::String(String::from_utf8_lossy(&body).into_owned())
                })))
            }
        }
    }

    fn split(&mut self, length: usize) -> Option<Vec<u8>> {
        if self.unread.len() < length {
            return None;
        }
        let rest = self.unread.split_off(length);
        Some(std::mem::replace(&mut self.unread, rest))
    }

    fn head(&mut self) -> Option<Word> {
        let end = find(&self.unread, b"\r\n\r\n")?;
        let head = self.split(end + 4)?;
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let status = head.get(9..12)?.parse().ok()?;
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(other, _)| *other == name).map(|(_, value)| value.trim().to_owned())
        };
        self.is_stream = header("content-type").is_some_and(|kind| kind.contains("event-stream"));
        let length = header("content-length").and_then(|length| length.parse().ok());
        self.form = match length {
            _ if status == 101 => Form::Frames,
            Some(length) => Form::Length(length),
            None if header("transfer-encoding").is_some() => Form::Chunks,
            None => Form::Length(0),
        };
        Some(Word::Status(status))
    }

    /// A frame of a server, which is not masked.
    fn frame(&mut self) -> Option<Word> {
        let (first, second) = (*self.unread.first()?, *self.unread.get(1)?);
        let (length, start) = match second {
            126 => {
                let bytes = self.unread.get(2..4)?;
                (u16::from_be_bytes(bytes.try_into().ok()?) as usize, 4)
            }
            127 => {
                let bytes = self.unread.get(2..10)?;
                (u64::from_be_bytes(bytes.try_into().ok()?) as usize, 10)
            }
            length => (length as usize, 2),
        };
        let frame = self.split(start + length)?;
        let payload = &frame[start..];
        Some(match first & 0x0f {
            1 => Word::Message(serde_json::from_slice(payload).expect("the broker speaks JSON")),
            8 => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                Word::Closed(code)
            }
            9 => Word::Ping(payload.to_vec()),
            op => panic!("a frame of op {op}"),
        })
    }

    fn block(&mut self) -> Option<Word> {
        loop {
            // It stands in the first block, and is said before there is one.
            if self.text.starts_with(b": welcome")
                && let Some(retry) = find(&self.text, b"\nretry:")
                && let Some(end) = find(&self.text[retry + 1..], b"\n")
            {
                self.text.drain(..retry + 1 + end + 1);
                return Some(Word::Message(serde_json::json!({ "op": "welcome" })));
            }
            if let Some(end) = find(&self.text, b"\n\n") {
                let rest = self.text.split_off(end + 2);
                let block = std::mem::replace(&mut self.text, rest);
                return Some(Word::Message(message(&String::from_utf8_lossy(&block))));
            }
            let line = find(&self.unread, b"\r\n")?;
            let length = std::str::from_utf8(&self.unread[..line]).ok()?;
            let length = usize::from_str_radix(length, 16).expect("a chunk has its length");
            let chunk = self.split(line + 2 + length + 2)?;
            if length == 0 {
                self.form = Form::Head;
                return Some(Word::Closed(None));
            }
            self.text.extend_from_slice(&chunk[line + 2..line + 2 + length]);
        }
    }
}

/// A block of an event stream as the message that it would be on a WebSocket.
fn message(block: &str) -> Value {
    let field = |name: &str| {
        let value = |line: &str| Some(line.strip_prefix(name)?.trim_start().to_owned());
        block.lines().find_map(value)
    };
    let data = field("data:").expect("every block has data");
    let mut data: Value = serde_json::from_str(&data).expect("the broker speaks JSON");
    let op = field("event:").map(|event| event.trim_start_matches("fanfare.").to_owned());
    data["op"] = op.unwrap_or_else(|| "event".to_owned()).into();
    data
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// A frame of a client, masked with zeros.
pub fn frame(op: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | op];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}
