//! WebSocket frames, as a client reads and writes them (RFC 6455, section 5).
//!
//! Thin on purpose: the bench shares its processors with the server it measures. A frame is looked at
//! where it lies in the buffer; nothing is copied, and fragments are taken as they come.

/// The kinds of frame that matter to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message or a part of one.
    Data,
    /// To be answered with the same payload.
    Ping,
    /// The answer to a ping.
    Pong,
    /// The good-bye, with code and reason.
    Close,
}

/// A frame of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its message is compressed (RFC 7692, section 6).
    pub is_compressed: bool,
    /// What it holds.
    pub payload: &'a [u8],
}

/// The kinds of frame that a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A text message.
    Text = 1,
    /// A binary message.
    Binary = 2,
    /// The answer to a ping.
    Pong = 10,
}

/// The first frame and its length, once it is there in full; from a server with which no compression was agreed on.
pub fn read(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, String> {
    match read_any(bytes)? {
        Some((Frame { is_compressed: true, .. }, _)) => {
            Err("a compressed frame, and nobody agreed on that".into())
        }
        frame => Ok(frame),
    }
}

/// The same, where frames may be compressed.
pub fn read_any(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, String> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if second & 0x80 != 0 {
        return Err("a masked frame from a server".into());
    }
    if first & 0x30 != 0 {
        return Err("a frame with reserved bits that nobody agreed on".into());
    }
    let is_compressed = first & 0x40 != 0;
    let kind = match first & 0x0f {
        0..=2 => Kind::Data,
        8 => Kind::Close,
        9 => Kind::Ping,
        10 => Kind::Pong,
        op => return Err(format!("a frame of the unknown kind {op}")),
    };
    let extended = match second {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some(length) = rest.get(..extended) else { return Ok(None) };
    let length = match extended {
        0 => usize::from(*second),
        _ => length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
    };
    let payload = rest.get(extended..).and_then(|rest| rest.get(..length));
    Ok(payload.map(|payload| (Frame { kind, is_compressed, payload }, 2 + extended + length)))
}

/// Appends a frame, masked as a client's has to be.
pub fn write(out: &mut Vec<u8>, op: Op, payload: &[u8]) {
    out.push(0x80 | op as u8);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let mask: [u8; 4] = rand::random();
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// What a close frame says.
pub fn reason(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("closed with {code} {}", String::from_utf8_lossy(reason)).trim_end().to_owned()
        }
        _ => "closed without a code".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a server sends it, whose length takes so many bytes more.
    fn server_frame(op: u8, payload: &[u8], extended: usize) -> Vec<u8> {
        let length = (payload.len() as u64).to_be_bytes();
        let mut bytes = vec![0x80 | op];
        bytes.push([payload.len() as u8, 126, 127][extended.div_ceil(4)]);
        bytes.extend_from_slice(&length[8 - extended..]);
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn frames_of_every_length_are_read_once_they_are_whole() {
        for (extended, length) in [(0, 0), (0, 125), (2, 126), (2, 65_535), (8, 65_536)] {
            let payload = vec![7; length];
            let mut bytes = server_frame(1, &payload, extended);
            assert_eq!(read(&bytes[..bytes.len() - 1]), Ok(None));
            let whole = bytes.len();
            bytes.push(9);
            let frame = Frame { kind: Kind::Data, is_compressed: false, payload: &payload };
            assert_eq!(read(&bytes), Ok(Some((frame, whole))));
        }
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        assert!(read(&[0x81, 0x80]).is_err());
        assert!(read(&[0xc1, 0]).is_err());
        assert!(read(&[0x83, 0]).is_err());
    }

    #[test]
    fn what_is_written_is_masked_and_says_its_length() {
        for length in [0_usize, 125, 126, 65_536] {
            let payload = vec![b'x'; length];
            let mut out = Vec::new();
            write(&mut out, Op::Text, &payload);
            let head = out.len() - length;
            assert_eq!(out[1] & 0x80, 0x80);
            let mask = &out[head - 4..head];
            let plain: Vec<_> = out[head..]
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask)
                .collect();
            assert_eq!(plain, payload);
            let unmasked = [&[out[0], out[1] & 0x7f], &out[2..head - 4], &plain].concat();
            let (frame, whole) = read(&unmasked).unwrap().unwrap();
            assert_eq!((frame.payload, whole), (&payload[..], unmasked.len()));
        }
    }

    #[test]
    fn a_close_frame_says_why() {
        assert_eq!(reason(b"\x11\x39slow consumer"), "closed with 4409 slow consumer");
        assert_eq!(reason(b""), "closed without a code");
    }
}
