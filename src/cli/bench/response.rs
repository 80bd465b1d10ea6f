//! HTTP/1.1 responses, as far as a bench has to read them (RFC 9112).
//!
//! Where a response ends decides when a publish is acknowledged; what else it says is looked at only
//! where it says no.

use httparse::Status;
use memchr::memmem;

/// The head of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// The bytes of the head with the empty line that ends it.
    pub length: usize,
    /// How the body is told from what follows it.
    pub body: Body,
    /// The server hangs up behind it (RFC 9112, section 9.6).
    pub is_last: bool,
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// So many bytes.
    Length(usize),
    /// As many chunks as come.
    Chunked,
    /// All until the connection ends.
    Endless,
}

/// The longest head that is taken for one.
const MAX_HEAD: usize = 64 << 10;

/// The most fields of one.
const MAX_FIELDS: usize = 64;

/// The head of a response, once it is there in full.
pub fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(bytes);
    let length = match parsed.map_err(|error| format!("the answer is not HTTP/1: {error}"))? {
        Status::Complete(length) => length,
        Status::Partial if bytes.len() > MAX_HEAD => {
            return Err("the answer's head has no end".into());
        }
        Status::Partial => return Ok(None),
    };
    let status = response.code.unwrap_or_default();
    let (body, is_last) = (body(status, response.headers)?, closes(response.headers));
    Ok(Some(Head { status, length, body, is_last }))
}

/// Whether the connection ends behind a response with these fields.
fn closes(fields: &[httparse::Header<'_>]) -> bool {
    let options = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("connection"));
    let mut options = options.flat_map(|field| field.value.split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// How long the body is of a response with this status and these fields.
fn body(status: u16, fields: &[httparse::Header<'_>]) -> Result<Body, String> {
    if matches!(status, 100..200 | 204 | 304) {
        return Ok(Body::Length(0));
    }
    let value = |name: &str| {
        let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(field.value).ok()
    };
    if value("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Ok(Body::Chunked);
    }
    let length = value("content-length").map(str::parse).transpose();
    let length = length.map_err(|_| "the answer's length is no number")?;
    Ok(length.map_or(Body::Endless, Body::Length))
}

/// A whole response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    /// The status code.
    pub status: u16,
    /// The body, with the sizes of its chunks still in it where it is chunked.
    pub body: &'a [u8],
    /// All its bytes.
    pub length: usize,
    /// The server hangs up behind it.
    pub is_last: bool,
}

/// The first response, once it is there in full.
pub fn response(bytes: &[u8]) -> Result<Option<Response<'_>>, String> {
    let Some(head) = head(bytes)? else { return Ok(None) };
    let body = &bytes[head.length..];
    let length = match head.body {
        Body::Length(length) => Some(length).filter(|length| *length <= body.len()),
        Body::Chunked => chunked_length(body)?,
        Body::Endless => return Err("the answer has no length".into()),
    };
    Ok(length.map(|length| Response {
        status: head.status,
        body: &body[..length],
        length: head.length + length,
        is_last: head.is_last,
    }))
}

/// The bytes of a chunked body, up to the end of its last chunk, once they are there.
fn chunked_length(body: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    while let Some((head, length)) = chunk(&body[at..])? {
        at += head + length + 2;
        if at > body.len() {
            return Ok(None);
        }
        if length == 0 {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// The bytes of the line that begins a chunk, and of the chunk itself, once that line is there.
pub fn chunk(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let Some(end) = memmem::find(bytes, b"\r\n") else { return Ok(None) };
    let size = bytes[..end].split(|byte| *byte == b';').next().unwrap_or_default();
    let size = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
    let size = size.ok_or("a chunk without its size")?;
    Ok(Some((end + 2, size)))
}

/// What is in the chunks of a body that never ends, in the pieces that arrive.
#[derive(Debug)]
pub struct Unchunked {
    /// Bytes of the present chunk that are still to come, with the line end behind it.
    left: usize,
    chunked: bool,
}

impl Unchunked {
    /// A reader of a body of this kind.
    pub fn new(body: Body) -> Self {
        Self { left: 0, chunked: body == Body::Chunked }
    }

    /// Appends what `bytes` hold to `out` and returns how many of them are done with.
    pub fn read(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, String> {
        if !self.chunked {
            out.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            if self.left == 0 {
                let Some((head, length)) = chunk(rest)? else { return Ok(at) };
                if length == 0 {
                    return Err("the stream ended".into());
                }
                self.left = length + 2;
                at += head;
                continue;
            }
            let here = rest.len().min(self.left);
            let data = here.min(self.left.saturating_sub(2));
            out.extend_from_slice(&rest[..data]);
            self.left -= here;
            at += here;
            if self.left > 0 {
                return Ok(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_ends_where_its_length_says() {
        let bytes = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 ";
        let whole = response(bytes).unwrap().unwrap();
        assert_eq!((whole.status, whole.body, whole.length), (201, &b"{}"[..], 45));
        assert_eq!(response(&bytes[..44]), Ok(None));
        assert_eq!(response(&bytes[..10]), Ok(None));
        assert!(response(b"SSH-2.0").is_err());
    }

    #[test]
    fn a_chunked_response_ends_with_its_last_chunk() {
        let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(response(bytes).unwrap().unwrap().length, bytes.len());
        assert_eq!(response(&bytes[..bytes.len() - 1]), Ok(None));
    }

    #[test]
    fn the_last_response_says_that_it_is() {
        for (field, is_last) in [
            ("connection: close", true),
            ("Connection: x, Close", true),
            ("connection: keep-alive", false),
            ("x-connection: close", false),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{field}\r\ncontent-length: 0\r\n\r\n");
            let whole = response(text.as_bytes()).unwrap().unwrap();
            assert_eq!(whole.is_last, is_last, "{field}");
        }
    }

    #[test]
    fn an_upgrade_has_no_body() {
        let bytes = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n\x81\x00";
        let whole = response(bytes).unwrap().unwrap();
        assert_eq!((whole.status, whole.length), (101, bytes.len() - 2));
    }

    #[test]
    fn chunks_are_taken_apart_wherever_the_reads_cut_them() {
        let bytes = b"3\r\nabc\r\n1;x=y\r\nd\r\nb\r\n\r\nefghi\r\n\r\n\r\n";
        for cut in 0..bytes.len() {
            let mut reader = Unchunked::new(Body::Chunked);
            let (mut out, mut waiting) = (Vec::new(), Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                waiting.extend_from_slice(part);
                let done = reader.read(&waiting, &mut out).unwrap();
                waiting.drain(..done);
            }
            assert_eq!(out, b"abcd\r\nefghi\r\n\r\n"[..out.len()], "{cut}");
            assert_eq!(out.len(), 15, "{cut}");
            assert!(waiting.is_empty());
        }
    }
}
