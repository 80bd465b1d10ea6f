//! The grammar of header fields (RFC 9110, section 5.6), read here and nowhere else.
//!
//! Lists whose members may be empty, quoted strings, parameters, media types and weights. What breaks the
//! grammar is not guessed at: it has no value, and who asks decides what follows.

use std::borrow::Cow;

use actix_web::http::header::{self, HeaderMap, HeaderName};

/// What a line that is not visible ASCII counts as: a member, so that the one before it is not taken for
/// the last, and none that means anything.
const UNREADABLE: &str = "\u{fffd}";

/// The members of a field that is a list, over all its lines, in order; empty ones don't count (section
/// 5.6.1.2).
pub fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).map(|line| line.to_str().unwrap_or(UNREADABLE));
    lines.flat_map(|line| members(line, ','))
}

/// The parts of a text between separators, without those that are empty.
pub fn members(text: &str, separator: char) -> impl Iterator<Item = &str> {
    parts(text, separator).filter(|part| !part.is_empty())
}

/// The parts of a text between separators that do not stand within quotes (section 5.6.4), without blanks
/// around them. A quote that does not end takes all that follows.
pub fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = text.split(move |c| {
        if is_escaped {
            is_escaped = false;
        } else if c == '"' {
            is_quoted = !is_quoted;
        } else if is_quoted {
            is_escaped = c == '\\';
        } else {
            return c == separator;
        }
        false
    });
    parts.map(trimmed)
}

/// A value as it is meant: without the quotes that it may stand in; `None` where these don't match.
pub fn unquoted(text: &str) -> Option<Cow<'_, str>> {
    let Some(quoted) = text.strip_prefix('"') else {
        return (!text.contains('"')).then_some(Cow::Borrowed(text));
    };
    let plain = quoted.strip_suffix('"').filter(|inner| !inner.contains(['"', '\\']));
    if let Some(plain) = plain {
        return Some(Cow::Borrowed(plain));
    }
    let mut value = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return chars.as_str().is_empty().then_some(Cow::Owned(value)),
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
}

/// Name and value of `name=value`, with blanks allowed around the sign.
pub fn pair(text: &str) -> Option<(&str, Cow<'_, str>)> {
    let (name, value) = text.split_once('=')?;
    Some((trimmed(name), unquoted(trimmed(value))?))
}

/// Whether a text is a token (section 5.6.2).
pub fn is_token(text: &str) -> bool {
    let is_one = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_one)
}

fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// A media type, or a range of them in `Accept` (sections 8.3.1 and 12.5.1). A parameter that can't be read
/// is passed over, as browsers do (WHATWG MIME Sniffing, section 4.4).
#[derive(Debug, Clone, Copy)]
pub struct MediaType<'a> {
    kind: &'a str,
    subtype: &'a str,
    parameters: &'a str,
}

impl<'a> MediaType<'a> {
    /// Reads `type/subtype; name=value`.
    pub fn parse(text: &'a str) -> Option<Self> {
        // What most say, and each publish.
        if text == "application/json" {
            return Some(Self { kind: "application", subtype: "json", parameters: "" });
        }
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        let (kind, subtype) = trimmed(essence).split_once('/')?;
        (is_token(kind) && is_token(subtype)).then_some(Self { kind, subtype, parameters })
    }

    /// Whether it is of this type, such as `text`.
    pub fn is_of(&self, kind: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind)
    }

    /// Whether it is this one.
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.is_of(kind) && self.subtype.eq_ignore_ascii_case(subtype)
    }

    /// Whether it is JSON, by its name or by the suffix of it (RFC 6839, section 3.1).
    pub fn is_json(&self) -> bool {
        let suffix = self.subtype.rsplit('+').next().unwrap_or_default();
        suffix.eq_ignore_ascii_case("json")
    }

    /// The first parameter of this name.
    pub fn parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut pairs = members(self.parameters, ';').filter_map(pair);
        pairs.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// How much it is wanted, from 0 for not at all to 1.
    fn weight(&self) -> f32 {
        weight(members(self.parameters, ';'))
    }
}

/// How much `Accept` wants this very media type, from 0 for not, or not by name, to 1.
pub fn weight_by_name(headers: &HeaderMap, kind: &str, subtype: &str) -> f32 {
    let ranges = list(headers, &header::ACCEPT).filter_map(MediaType::parse);
    let named = ranges.filter(|range| range.is(kind, subtype));
    named.map(|range| range.weight()).fold(0.0, f32::max)
}

/// Whether `Accept` names this very media type, and wants it.
pub fn accepts_by_name(headers: &HeaderMap, kind: &str, subtype: &str) -> bool {
    weight_by_name(headers, kind, subtype) > 0.0
}

/// Whether `Accept-Encoding` wants this coding, by its name or else by `*` (section 12.5.3).
pub fn accepts_coding(headers: &HeaderMap, coding: &str) -> bool {
    let wanted = |name: &str| {
        list(headers, &header::ACCEPT_ENCODING).find_map(|member| {
            let (given, parameters) = member.split_once(';').unwrap_or((member, ""));
            trimmed(given)
                .eq_ignore_ascii_case(name)
                .then(|| weight(members(parameters, ';')) > 0.0)
        })
    };
    wanted(coding).or_else(|| wanted("*")).unwrap_or(false)
}

/// How much something is wanted by the `q` of its parameters, from 0 for not at all to 1 (section 12.4.2).
fn weight<'a>(parameters: impl Iterator<Item = &'a str>) -> f32 {
    let mut pairs = parameters.filter_map(pair);
    let q = pairs.find(|(name, _)| name.eq_ignore_ascii_case("q"));
    let weight = q.map_or(Ok(1.0), |(_, weight)| weight.parse::<f32>());
    weight.ok().filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT, ACCEPT_ENCODING, HeaderValue};

    use super::*;

    #[test]
    fn empty_members_and_what_stands_in_quotes_separate_nothing() {
        for (text, expected) in [
            ("", &[][..]),
            (" , ,\t", &[]),
            ("a", &["a"]),
            (",a, ,b,", &["a", "b"]),
            (r#"a="x,y" , b"#, &[r#"a="x,y""#, "b"]),
            (r#"a="x\",y",b"#, &[r#"a="x\",y""#, "b"]),
            (r#"a\"b,c",d"#, &[r#"a\"b,c""#, "d"]),
            (r#"a,"b,c"#, &["a", r#""b,c"#]),
        ] {
            assert_eq!(members(text, ',').collect::<Vec<_>>(), expected, "{text}");
        }
        let mut headers = HeaderMap::new();
        for line in [&b"a, "[..], b"", b"\xff", b",b"] {
            headers.append(ACCEPT, HeaderValue::from_bytes(line).unwrap());
        }
        assert_eq!(list(&headers, &ACCEPT).collect::<Vec<_>>(), ["a", UNREADABLE, "b"]);
    }

    #[test]
    fn a_coding_is_wanted_by_its_name_before_it_is_by_the_asterisk() {
        for (value, expected) in [
            ("", false),
            ("gzip", true),
            ("deflate, GZIP;q=0.1, br", true),
            ("gzip ; Q=0", false),
            ("*", true),
            ("*;q=0", false),
            ("gzip;q=0, *", false),
            ("identity", false),
            ("gzip;q=much", false),
            ("xgzip", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(accepts_coding(&headers, "gzip"), expected, "{value}");
        }
        assert!(!accepts_coding(&HeaderMap::new(), "gzip"));
    }

    #[test]
    fn a_quoted_value_is_what_it_quotes() {
        for (text, expected) in [
            ("a", Some("a")),
            ("", Some("")),
            (r#""""#, Some("")),
            (r#""a b""#, Some("a b")),
            (r#""a\"\\b""#, Some(r#"a"\b"#)),
            (r#""a"#, None),
            (r#""a\"#, None),
            (r#""a"b"#, None),
            (r#"a""#, None),
        ] {
            assert_eq!(unquoted(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_media_type_has_its_parameters() {
        let charset = |text| MediaType::parse(text).map(|of| of.parameter("CharSet"));
        let is = |charset: &'static str| Some(Some(Cow::Borrowed(charset)));
        for (text, expected) in [
            ("text/plain", Some(None)),
            (" Text/Plain ; x ; charset = utf-8 ;", is("utf-8")),
            ("text/plain;charset=a;charset=b", is("a")),
            (r#"text/plain;x="\";charset=a";charset="b c""#, is("b c")),
            (r#"text/plain;charset="a"#, Some(None)),
            ("text", None),
            ("text/", None),
            ("/plain", None),
            ("text/plain, text/html", None),
            ("te xt/plain", None),
            ("", None),
        ] {
            assert_eq!(charset(text), expected, "{text}");
        }
        assert!(MediaType::parse("application/LD+Json").unwrap().is_json());
        assert!(!MediaType::parse("application/json-seq").unwrap().is_json());
    }

    #[test]
    fn what_is_accepted_is_named_with_a_weight() {
        for (accept, expected) in [
            ("a/b", true),
            ("A/B;q=0.1", true),
            ("c/d;q=1, a/b ; x=y; Q=0.001", true),
            ("a/b;q=0", false),
            ("a/b;q=0.000", false),
            ("a/b;q=NaN", false),
            ("a/b;q=nonsense", false),
            ("*/*, a/*", false),
            (r#"c/d; x="a/b, a/b""#, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(accepts_by_name(&headers, "a", "b"), expected, "{accept}");
        }
    }
}
