//! The examples of RFC 7692, streams that lie, and what comes back of what was compressed.

use super::*;
use actix_http::ws::OpCode;
use proptest::prelude::*;

const FULL: Deflate = Deflate { asked: None, inbound: Inbound::Alone, min_bytes: 0 };
const SMALL: Deflate = Deflate { asked: Some(Window::Small), ..FULL };

/// More than any message of these tests.
const PLENTY: usize = 1 << 20;

fn inflated(stream: &[u8], max_bytes: usize) -> Result<Vec<u8>, Close> {
    inflate(stream.into(), max_bytes, None).map(Vec::from)
}

fn text_frame(payload: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    Parser::write_message(&mut frame, payload, OpCode::Text, true, false);
    frame
}

/// Bytes that nothing makes shorter: xorshift64 (Marsaglia, 2003), the same on each run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn the_examples_of_rfc_7692_are_inflated() {
    for (section, stream, message) in [
        ("7.2.3.1", &b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..], &b"Hello"[..]),
        ("7.2.3.3, no compression", b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", b"Hello"),
        ("7.2.3.4, a last block", b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"),
        ("7.2.3.5, two blocks", b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", b"Hello"),
        ("7.2.3.6, an empty message", b"\x00", b""),
        ("an empty message by a fixed block", b"\x02\x00", b""),
        ("an empty message without a block", b"", b""),
    ] {
        assert_eq!(inflated(stream, PLENTY), Ok(message.to_vec()), "{section}");
    }
}

#[test]
fn without_a_context_the_sliding_window_does_not_outlive_its_message() {
    // RFC 7692, section 7.2.3.2: the second "Hello" as a reference to the first.
    assert_eq!(inflated(b"\xf2\x48\xcd\xc9\xc9\x07\x00", PLENTY), Ok(b"Hello".to_vec()));
    assert_eq!(inflated(b"\xf2\x00\x11\x00\x00", PLENTY), Err(Close::ProtocolError));
}

#[test]
fn what_is_broken_or_cut_short_is_a_protocol_error() {
    for stream in [
        &b"\xff"[..],
        b"\x07",
        b"\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00",
        b"\x00\x05\x00\xfa\xff\x48\x65",
        b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff",
        b"not compressed at all",
    ] {
        assert_eq!(inflated(stream, PLENTY), Err(Close::ProtocolError), "{stream:x?}");
    }
    let message = br#"{"op":"publish","topic":"orders.eu","data":{"orders":[1,2,3,4,5,6]}}"#;
    let stream = Window::Full.compress(message).unwrap();
    for length in 1..stream.len() {
        assert_eq!(inflated(&stream[..length], PLENTY), Err(Close::ProtocolError), "{length}");
    }
}

#[test]
fn the_limit_is_that_of_the_inflated_message_to_the_byte() {
    for length in [20, STEP - 1, STEP, STEP + 1, 100_000] {
        let stream = Window::Full.compress(&vec![b'a'; length]).unwrap();
        assert_eq!(inflated(&stream, length).map(|message| message.len()), Ok(length));
        assert_eq!(inflated(&stream, length - 1), Err(Close::TooLarge));
    }
}

#[test]
fn a_bomb_is_given_up_at_the_limit() {
    let mebibyte = Window::Full.compress(&vec![0; 1 << 20]).unwrap();
    let bomb = [&mebibyte[..], &TAIL].concat().repeat(16);
    assert!(bomb.len() < 128 * 1024, "{}", bomb.len());
    assert_eq!(inflated(&bomb, 128 * 1024), Err(Close::TooLarge));
}

#[test]
fn a_message_of_last_blocks_alone_ends() {
    let blocks = b"\x03\x00".repeat(64 * 1024);
    let whole = [&blocks[..], b"\x00"].concat();
    assert_eq!(inflated(&whole, PLENTY), Ok(Vec::new()));
}

#[test]
fn a_frame_is_shrunk_to_one_with_the_bit_set_that_holds_the_same_message() {
    for length in [300, 4_000, 60_000, 500_000] {
        let message = br#"{"n":1,"name":"x"},"#.repeat(length / 19);
        for deflate in [FULL, SMALL] {
            let small = deflate.shrink(&text_frame(&message)).unwrap();
            assert_eq!(small[0], 0xc1);
            assert!(small.len() < message.len() / 2);
            let stream = payload(&small).unwrap();
            assert!(!stream.ends_with(&TAIL));
            assert_eq!(inflated(stream, PLENTY), Ok(message.clone()));
        }
    }
}

#[test]
fn what_is_short_or_would_not_shrink_stays_as_it_is() {
    let message = [b'a'; 100];
    let deflate = |min_bytes| Deflate { min_bytes, ..FULL };
    assert!(deflate(101).shrink(&text_frame(&message)).is_none());
    assert!(deflate(100).shrink(&text_frame(&message)).is_some());
    for message in [&b""[..], b"a", b"Hello", &noise(100), &noise(70_000)] {
        assert!(FULL.shrink(&text_frame(message)).is_none(), "{} bytes", message.len());
    }
}

#[test]
fn a_small_window_is_kept_to() {
    // The same noise again, 600 bytes back: within reach of 32 KiB, and beyond that of 512 bytes.
    let twice = noise(600).repeat(2);
    assert!(FULL.shrink(&text_frame(&twice)).unwrap().len() < 700);
    assert!(SMALL.shrink(&text_frame(&twice)).is_none());
}

#[test]
fn the_answer_holds_a_window_only_where_one_was_asked_for() {
    for (inbound, client) in [
        (Inbound::Alone, "; client_no_context_takeover"),
        (Inbound::Asked, "; client_max_window_bits=10"),
        (Inbound::Own(15), ""),
    ] {
        let answer = |asked| Deflate { asked, inbound, ..FULL }.answer();
        let begin = format!("permessage-deflate; server_no_context_takeover{client}");
        assert_eq!(answer(None), begin);
        assert_eq!(answer(Some(Window::Full)), format!("{begin}; server_max_window_bits=15"));
        assert_eq!(answer(Some(Window::Small)), format!("{begin}; server_max_window_bits=9"));
    }
}

/// Messages as a client sends them that refers back to those before, within a window.
fn in_context(messages: &[Vec<u8>], bits: u8) -> Vec<Vec<u8>> {
    let mut compressor = Compress::new_with_window_bits(Compression::default(), false, bits);
    let streams = messages.iter().map(|message| {
        let mut stream = Vec::with_capacity(message.len() + 100);
        compressor.compress_vec(message, &mut stream, FlushCompress::Sync).unwrap();
        // A compressor has nothing more to say where nothing came (RFC 7692, section 7.2.3.6).
        stream.strip_suffix(&TAIL).unwrap_or(&[0]).to_vec()
    });
    streams.collect()
}

#[test]
fn with_a_context_a_message_may_refer_to_those_before() {
    let mut context = Contexts::new(1 << 15).take(15).unwrap();
    let mut inflated = |stream: &[u8]| inflate(stream.into(), PLENTY, Some(&mut context));
    // RFC 7692, section 7.2.3.2, and a last block, after which the window goes on (section 7.2.3.4).
    for stream in [
        &b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..],
        b"\xf2\x00\x11\x00\x00",
        b"\xf3\x00\x11\x00\x00",
        b"\xf2\x00\x11\x00\x00",
    ] {
        assert_eq!(inflated(stream).unwrap(), "Hello");
    }
    assert_eq!(inflated(b"").unwrap(), "");
    assert_eq!(inflated(b"\xf2\x00\x11\x00\x00").unwrap(), "Hello");
}

#[test]
fn what_lies_further_back_than_was_agreed_is_a_protocol_error() {
    let noise = noise(1_000);
    let messages = [noise.clone(), vec![b'a'; 600], noise];
    let streams = in_context(&messages, 15);
    let read = |bits| {
        let mut context = Contexts::new(1_usize << bits).take(bits).unwrap();
        let read = |stream: &Vec<u8>| inflate(stream[..].into(), PLENTY, Some(&mut context));
        streams.iter().map(read).collect::<Result<Vec<_>, _>>()
    };
    assert_eq!(read(11).unwrap(), messages);
    assert_eq!(read(10), Err(Close::ProtocolError));
}

#[test]
fn a_message_of_last_blocks_alone_is_given_up_where_each_looks_back() {
    let mut context = Contexts::new(1 << 15).take(15).unwrap();
    let blocks = [&b"\x03\x00".repeat(64 * 1024)[..], b"\x00"].concat();
    let outcome = inflate(blocks[..].into(), PLENTY, Some(&mut context));
    assert_eq!(outcome, Err(Close::ProtocolError));
}

proptest! {
    #[test]
    fn any_message_comes_back_the_same(message in prop::collection::vec(any::<u8>(), 0..3_000), times in 1..20_usize) {
        let message = message.repeat(times);
        for window in [Window::Full, Window::Small] {
            if let Some(stream) = window.compress(&message) {
                prop_assert!(stream.len() < message.len());
                prop_assert_eq!(inflated(&stream, message.len()), Ok(message.clone()));
            }
        }
    }

    #[test]
    fn any_messages_that_refer_back_come_back_the_same(
        messages in prop::collection::vec(prop::collection::vec(0..4_u8, 0..2_000), 1..12),
        bits in 9..=15_u8,
    ) {
        let mut context = Contexts::new(1_usize << bits).take(bits).unwrap();
        for (message, stream) in messages.iter().zip(in_context(&messages, bits)) {
            let inflated = inflate(stream[..].into(), PLENTY, Some(&mut context)).unwrap();
            prop_assert_eq!(&inflated[..], &message[..]);
        }
    }

    #[test]
    fn any_bytes_are_inflated_within_the_limit_or_refused(stream in prop::collection::vec(any::<u8>(), 0..500)) {
        if let Ok(message) = inflated(&stream, 1_000) {
            prop_assert!(message.len() <= 1_000);
        }
    }
}
