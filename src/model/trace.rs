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
