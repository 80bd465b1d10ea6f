//! From the body of a request to the data of an event, by its media type.

use actix_web::http::header::HeaderMap;
use encoding_rs::Encoding;

use crate::config::Limits;
use crate::http;
use crate::model::{Code, Data, DataError, Problem, unmarked};

/// The subtypes of one JSON document a line.
const LINES: [&str; 3] = ["x-ndjson", "ndjson", "jsonl"];

/// What a body is, as its `Content-Type` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    /// It must be JSON.
    Json,
    /// It is JSON if it parses, else text: nothing was said, or what curl says by itself.
    Guess,
    /// One JSON document a line.
    Lines,
    /// Text in UTF-8.
    Text,
    /// Anything else.
    Binary,
}

/// What a body became that was not taken for JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredAs {
    /// A JSON string of its text.
    Text,
    /// A JSON string of its base64.
    Base64,
}

impl StoredAs {
    /// What its publisher is told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Base64 => "base64",
        }
    }
}

impl BodyFormat {
    /// Reads `Content-Type`: what the body is, and in which encoding it comes where that is text in another
    /// than UTF-8. What is no media type, or names a charset that is none, is refused (415).
    pub fn of(headers: &HeaderMap) -> Result<(Self, Option<&'static Encoding>), Problem> {
        let Some(media_type) = http::media_type(headers)? else {
            return Ok((BodyFormat::Guess, None));
        };
        let form = if media_type.is_json() {
            BodyFormat::Json
        } else if media_type.is("application", "x-www-form-urlencoded") {
            BodyFormat::Guess
        } else if LINES.iter().any(|lines| media_type.is("application", lines)) {
            BodyFormat::Lines
        } else if media_type.is_of("text") {
            BodyFormat::Text
        } else {
            BodyFormat::Binary
        };
        let charset = if form == BodyFormat::Binary { None } else { http::charset(&media_type)? };
        Ok((form, charset))
    }

    /// The body as the data of an event, and what it was stored as, where that is not the JSON it is:
    /// whoever meant to send JSON sees so that it was none, or was not said to be.
    pub fn data(&self, body: &[u8], limits: &Limits) -> Result<(Data, Option<StoredAs>), Problem> {
        let (data, stored_as) = match self {
            BodyFormat::Json => (Data::from_json(unmarked(body), limits.json_depth)?, None),
            BodyFormat::Guess => match Data::from_json(unmarked(body), limits.json_depth) {
                Err(DataError::NotJson(_)) => (text(unmarked(body))?, Some(StoredAs::Text)),
                parsed => (parsed?, None),
            },
            BodyFormat::Text => (text(body)?, Some(StoredAs::Text)),
            BodyFormat::Lines | BodyFormat::Binary => {
                (Data::from_binary(body), Some(StoredAs::Base64))
            }
        };
        require_size(&data, limits)?;
        Ok((data, stored_as))
    }
}

/// Refuses data over its limit.
pub(super) fn require_size(data: &Data, limits: &Limits) -> Result<(), Problem> {
    let (bytes, limit) = (data.json().get().len(), limits.event_bytes);
    if bytes <= limit {
        return Ok(());
    }
    let detail = format!("the data has {bytes} bytes as JSON, and limits.event_bytes is {limit}");
    Err(Problem::new(Code::TooLarge, detail))
}

fn text(body: &[u8]) -> Result<Data, Problem> {
    match std::str::from_utf8(body) {
        Ok(text) => Ok(Data::from_text(text)),
        Err(error) => {
            Err(Problem::new(Code::BadRequest, format!("the text is not UTF-8: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use actix_web::http::header::{self, HeaderValue};

    type Found = Result<(BodyFormat, Option<&'static str>), Code>;

    fn form(content_type: &'static str) -> Found {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        let form = BodyFormat::of(&headers).map_err(|problem| problem.code);
        form.map(|(form, charset)| (form, charset.map(Encoding::name)))
    }

    #[test]
    fn the_media_type_says_what_a_body_is() {
        assert_eq!(BodyFormat::of(&HeaderMap::new()), Ok((BodyFormat::Guess, None)));
        for (content_type, expected) in [
            ("application/json", BodyFormat::Json),
            ("application/json; charset=UTF-8", BodyFormat::Json),
            ("application/vnd.x+json", BodyFormat::Json),
            ("application/x-www-form-urlencoded", BodyFormat::Guess),
            ("application/x-ndjson", BodyFormat::Lines),
            ("text/plain", BodyFormat::Text),
            ("text/csv; charset=us-ascii", BodyFormat::Text),
            ("image/png", BodyFormat::Binary),
            ("image/png; charset=latin1", BodyFormat::Binary),
        ] {
            assert_eq!(form(content_type), Ok((expected, None)), "{content_type}");
        }
        for label in ["latin1", "ISO-8859-1", "\"windows-1252\"", "cp1252"] {
            let content_type: &'static str = format!("text/plain; charset={label}").leak();
            let expected = Ok((BodyFormat::Text, Some("windows-1252")));
            assert_eq!(form(content_type), expected, "{content_type}");
        }
        for content_type in [
            "text/plain; charset=utf-16",
            "text/plain; charset=klingon",
            "text/plain; charset=",
            "nonsense",
            "",
        ] {
            assert_eq!(form(content_type), Err(Code::UnsupportedMediaType), "{content_type}");
        }
    }

    #[test]
    fn a_body_becomes_data_as_its_form_says() {
        let limits = Config::default().limits;
        let (text, base64) = (Some(StoredAs::Text), Some(StoredAs::Base64));
        for (form, body, json, expected) in [
            (BodyFormat::Json, "[1.0]", "[1.0]", None),
            (BodyFormat::Guess, "[1.0]", "[1.0]", None),
            (BodyFormat::Guess, "it's", "\"it's\"", text),
            (BodyFormat::Guess, "{\"a\":}", "\"{\\\"a\\\":}\"", text),
            (BodyFormat::Guess, "", "\"\"", text),
            (BodyFormat::Json, "\u{feff}[1.0]", "[1.0]", None),
            (BodyFormat::Guess, "\u{feff}[1.0]", "[1.0]", None),
            (BodyFormat::Guess, "\u{feff}it's", "\"it's\"", text),
            (BodyFormat::Text, "\u{feff}[1]", "\"\u{feff}[1]\"", text),
            (BodyFormat::Text, "[1]", "\"[1]\"", text),
            (BodyFormat::Binary, "[1]", "\"WzFd\"", base64),
        ] {
            let (data, stored_as) = form.data(body.as_bytes(), &limits).unwrap();
            assert_eq!(data.json().get(), json, "{form:?} {body}");
            assert_eq!(stored_as, expected, "{form:?} {body}");
            assert_eq!(data.is_base64(), form == BodyFormat::Binary);
        }
        let code = |form: BodyFormat, body: &[u8]| form.data(body, &limits).unwrap_err().code;
        assert_eq!(code(BodyFormat::Json, b"nope"), Code::InvalidJson);
        assert_eq!(code(BodyFormat::Text, b"\xff"), Code::BadRequest);
        assert_eq!(code(BodyFormat::Guess, b"\xff"), Code::BadRequest);
        assert_eq!(code(BodyFormat::Binary, &vec![0; limits.event_bytes]), Code::TooLarge);
    }
}
