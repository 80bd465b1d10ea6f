//! A place in a trace that goes on through the broker: `traceparent` of W3C Trace Context.

/// A legal `traceparent`, written as its version 00.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace(String);

impl Trace {
    /// The length of one of version 00, in bytes.
    const LENGTH: usize = 55;

    /// Reads a `traceparent` (W3C Trace Context, section 3.2.2); none where it is to be ignored. One of a later version is
    /// taken as far as it says what 00 says (section 4.3): of its flags, whether the caller records the trace.
    pub fn parse(text: &str) -> Option<Self> {
        let (known, more) = text.split_at_checked(Self::LENGTH)?;
        let mut fields = known.split('-');
        let mut field = |length| fields.next().filter(|field| is_hex(field, length));
        let (version, trace, parent, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
        let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
        if version == "ff" || is_zero(trace) || is_zero(parent) {
            return None;
        }
        if version == "00" {
            return more.is_empty().then(|| Self(known.to_owned()));
        }
        let is_recorded = u8::from_str_radix(flags, 16).ok()? & 1;
        let ends = more.is_empty() || more.starts_with('-');
        ends.then(|| Self(format!("00-{trace}-{parent}-{is_recorded:02x}")))
    }

    /// The text as readers are given it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The span of the caller, as its numbers.
    pub fn span(&self) -> Option<SpanContext> {
        let mut fields = self.0.split('-').skip(1);
        let trace = u128::from_str_radix(fields.next()?, 16).ok()?.to_be_bytes();
        let span = u64::from_str_radix(fields.next()?, 16).ok()?.to_be_bytes();
        let flags = u8::from_str_radix(fields.next()?, 16).ok()?;
        Some(SpanContext { trace, span, is_sampled: flags & 1 != 0 })
    }
}

/// A span of a trace, as those that follow it have to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// The id of the trace.
    pub trace: [u8; 16],
    /// The id of the span.
    pub span: [u8; 8],
    /// Whether the trace is recorded.
    pub is_sampled: bool,
}

impl SpanContext {
    /// The length of [`SpanContext::bytes`].
    pub const BYTES: usize = 25;

    /// Reads what [`SpanContext::bytes`] gave; none where it has another length.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (trace, rest) = bytes.split_first_chunk()?;
        let (span, &[flags]) = rest.split_first_chunk()? else { return None };
        Some(Self { trace: *trace, span: *span, is_sampled: flags & 1 != 0 })
    }

    /// The ids of trace and span, and a byte of flags as in a `traceparent`.
    pub fn bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace);
        bytes[16..24].copy_from_slice(&self.span);
        bytes[24] = u8::from(self.is_sampled);
        bytes
    }
}

fn is_hex(field: &str, length: usize) -> bool {
    field.len() == length && field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_the_specification_allows_is_taken_and_all_else_ignored() {
        let read = |text: &str| Trace::parse(text).map(|trace| trace.as_str().to_owned());
        assert_eq!(read(WHOLE).as_deref(), Some(WHOLE));
        assert_eq!(read(&WHOLE.replace("-01", "-ff")), Some(WHOLE.replace("-01", "-ff")));
        for later in [
            WHOLE.replacen("00", "01", 1),
            WHOLE.replacen("00", "cc", 1) + "-what-comes-later",
            WHOLE.replacen("00", "fe", 1).replace("-01", "-ff") + "-",
        ] {
            assert_eq!(read(&later).as_deref(), Some(WHOLE), "{later}");
        }
        for bad in [
            String::new(),
            "00".to_owned(),
            WHOLE.replacen("00", "ff", 1),
            WHOLE.to_uppercase(),
            WHOLE.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            WHOLE.replace("b7ad6b7169203331", &"0".repeat(16)),
            WHOLE.replace("-01", "-0g"),
            WHOLE.replace("-01", "-1"),
            WHOLE.replace('-', "_"),
            WHOLE.replacen("-b7", "b-7", 1),
            format!("{WHOLE}-more"),
            format!("{WHOLE}0"),
            format!(" {WHOLE}"),
            format!("{WHOLE},{WHOLE}"),
            WHOLE.replacen("00", "01", 1) + "0",
            format!("{}é", &WHOLE[..54]),
        ] {
            assert_eq!(read(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_span_is_read_from_a_traceparent_and_from_its_own_bytes() {
        let span = Trace::parse(WHOLE).unwrap().span().unwrap();
        assert_eq!(span.trace[..2], [0x0a, 0xf7]);
        assert_eq!((span.span[0], span.span[7], span.is_sampled), (0xb7, 0x31, true));
        assert_eq!(SpanContext::read(&span.bytes()), Some(span));
        assert_eq!(SpanContext::read(&span.bytes()[1..]), None);
        let flags = |flags: &str| {
            let trace = Trace::parse(&WHOLE.replace("-01", flags)).unwrap();
            trace.span().unwrap().is_sampled
        };
        assert!(flags("-03") && flags("-ff") && !flags("-00") && !flags("-02"));
    }

    proptest! {
        #[test]
        fn what_is_taken_is_whole_and_any_text_is_judged_without_a_panic(text in "[0-9a-f]{2}-.{0,60}") {
            if let Some(trace) = Trace::parse(&text) {
                prop_assert_eq!(trace.as_str().len(), Trace::LENGTH);
                prop_assert_eq!(Trace::parse(trace.as_str()), Some(trace));
            }
        }
    }
}
