//! What the head of a request says of its body: its media type, its charset, its coding.

use actix_web::http::header::{self, HeaderMap, HeaderValue};
use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use super::grammar::{self, MediaType};
use crate::model::{Code, Problem};

/// How the body of a request is encoded (RFC 9110, section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// What an answer that refuses another coding says in `Accept-Encoding` (RFC 9110, section 15.5.16).
    pub const ACCEPTED: HeaderValue = HeaderValue::from_static("gzip");

    /// Reads `Content-Encoding`; another coding than gzip, or more than one, is refused (415).
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let codings = grammar::list(headers, &header::CONTENT_ENCODING);
        let mut codings = codings.filter(|coding| !coding.eq_ignore_ascii_case("identity"));
        let is_gzip =
            |coding: &str| ["gzip", "x-gzip"].iter().any(|gzip| coding.eq_ignore_ascii_case(gzip));
        match (codings.next(), codings.next()) {
            (None, _) => Ok(Coding::Identity),
            (Some(coding), None) if is_gzip(coding) => Ok(Coding::Gzip),
            _ => {
                let detail = "of encoded bodies those are taken that say `Content-Encoding: gzip`, \
                              and no other coding";
                Err(Problem::new(Code::UnsupportedMediaType, detail))
            }
        }
    }
}

/// The labels of ASCII, which UTF-8 contains. (To browsers they mean windows-1252.)
const ASCII: [&str; 3] = ["us-ascii", "ascii", "ansi_x3.4-1968"];

/// The encoding of a body of text, as the `charset` of its media type names it (WHATWG Encoding, section
/// 4.2): `None` for UTF-8, or windows-1252, which all labels of Latin-1 mean there. Others are refused (415).
pub fn charset(media_type: &MediaType<'_>) -> Result<Option<&'static Encoding>, Problem> {
    let Some(label) = media_type.parameter("charset") else { return Ok(None) };
    let label = label.trim();
    if ASCII.iter().any(|ascii| ascii.eq_ignore_ascii_case(label)) {
        return Ok(None);
    }
    match Encoding::for_label(label.as_bytes()) {
        Some(encoding) if encoding == UTF_8 => Ok(None),
        Some(encoding) if encoding == WINDOWS_1252 => Ok(Some(encoding)),
        Some(_) | None => {
            let label: String = label.chars().take(64).collect();
            let detail = format!("text must be UTF-8, or ISO-8859-1, and not {label:?}");
            Err(Problem::new(Code::UnsupportedMediaType, detail))
        }
    }
}

/// The media type of a body, where one is given; what is none is refused (415).
pub fn media_type(headers: &HeaderMap) -> Result<Option<MediaType<'_>>, Problem> {
    let Some(text) = super::header(headers, &header::CONTENT_TYPE)? else { return Ok(None) };
    let unreadable = || {
        let detail = "Content-Type is not a media type; the form is application/json";
        Problem::new(Code::UnsupportedMediaType, detail)
    };
    MediaType::parse(text).map(Some).ok_or_else(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_codings_gzip_is_taken_and_empty_members_count_for_nothing() {
        let coding = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(line));
            }
            Coding::of(&headers).map_err(|problem| problem.code)
        };
        for (lines, expected) in [
            (&[][..], Some(Coding::Identity)),
            (&[""], Some(Coding::Identity)),
            (&[" , ,"], Some(Coding::Identity)),
            (&["identity, Identity"], Some(Coding::Identity)),
            (&["gzip"], Some(Coding::Gzip)),
            (&[",", " X-Gzip ,identity"], Some(Coding::Gzip)),
            (&["gzip, gzip"], None),
            (&["gzip", "br"], None),
            (&["br"], None),
            (&["gzip;q=1"], None),
        ] {
            assert_eq!(coding(lines), expected.ok_or(Code::UnsupportedMediaType), "{lines:?}");
        }
    }
}
