//! From the body of a request to the data of an event, by its media type.

use actix_web::http::header::HeaderMap;

use crate::config::Limits;
use crate::http;
use crate::model::{Code, Data, DataError, Problem, unmarked};

/// The subtypes of one JSON document a line.
const LINES: [&str; 3] = ["x-ndjson", "ndjson", "jsonl"];

/// The labels of UTF-8 (WHATWG Encoding, section 4.2), and those of ASCII, which it contains.
const UTF8: [&str; 9] = [
    "utf-8",
    "utf8",
    "unicode-1-1-utf-8",
    "unicode11utf8",
    "unicode20utf8",
    "x-unicode20utf8",
    "us-ascii",
    "ascii",
    "ansi_x3.4-1968",
];

/// What a body is, as its `Content-Type` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
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

impl Form {
    /// Reads `Content-Type`; a charset other than UTF-8 and an encoded body are refused (415).
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        http::require_plain_body(headers)?;
        let Some(media_type) = http::media_type(headers)? else { return Ok(Form::Guess) };
        let form = if media_type.is_json() {
            Form::Json
        } else if media_type.is("application", "x-www-form-urlencoded") {
            Form::Guess
        } else if LINES.iter().any(|lines| media_type.is("application", lines)) {
            Form::Lines
        } else if media_type.is_of("text") {
            Form::Text
        } else {
            Form::Binary
        };
        match media_type.parameter("charset") {
            Some(charset) if form != Form::Binary && !is_utf8(&charset) => {
                let detail = format!("text must be utf-8, not {charset}");
                Err(Problem::new(Code::UnsupportedMediaType, detail))
            }
            _ => Ok(form),
        }
    }

    /// The body as the data of an event.
    pub fn data(&self, body: &[u8], limits: &Limits) -> Result<Data, Problem> {
        let data = match self {
            Form::Json => Data::from_json(unmarked(body), limits.json_depth)?,
            Form::Guess => match Data::from_json(unmarked(body), limits.json_depth) {
                Err(DataError::NotJson(_)) => text(unmarked(body))?,
                parsed => parsed?,
            },
            Form::Text => text(body)?,
            Form::Lines | Form::Binary => Data::from_binary(body),
        };
        require_size(&data, limits)?;
        Ok(data)
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

fn is_utf8(charset: &str) -> bool {
    let charset = charset.trim();
    UTF8.iter().any(|label| label.eq_ignore_ascii_case(charset))
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

    fn form(content_type: &'static str) -> Result<Form, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Form::of(&headers)
    }

    #[test]
    fn the_media_type_says_what_a_body_is() {
        assert_eq!(Form::of(&HeaderMap::new()), Ok(Form::Guess));
        for (content_type, expected) in [
            ("application/json", Form::Json),
            ("application/json; charset=UTF-8", Form::Json),
            ("application/vnd.x+json", Form::Json),
            ("application/x-www-form-urlencoded", Form::Guess),
            ("application/x-ndjson", Form::Lines),
            ("text/plain", Form::Text),
            ("text/csv; charset=us-ascii", Form::Text),
            ("image/png", Form::Binary),
        ] {
            assert_eq!(form(content_type), Ok(expected), "{content_type}");
        }
        for content_type in ["text/plain; charset=latin1", "nonsense", ""] {
            let code = form(content_type).unwrap_err().code;
            assert_eq!(code, Code::UnsupportedMediaType, "{content_type}");
        }
    }

    #[test]
    fn a_body_becomes_data_as_its_form_says() {
        let limits = Config::default().limits;
        for (form, body, json) in [
            (Form::Json, "[1.0]", "[1.0]"),
            (Form::Guess, "[1.0]", "[1.0]"),
            (Form::Guess, "it's", "\"it's\""),
            (Form::Guess, "", "\"\""),
            (Form::Json, "\u{feff}[1.0]", "[1.0]"),
            (Form::Guess, "\u{feff}[1.0]", "[1.0]"),
            (Form::Guess, "\u{feff}it's", "\"it's\""),
            (Form::Text, "\u{feff}[1]", "\"\u{feff}[1]\""),
            (Form::Text, "[1]", "\"[1]\""),
            (Form::Binary, "[1]", "\"WzFd\""),
        ] {
            let data = form.data(body.as_bytes(), &limits).unwrap();
            assert_eq!(data.json().get(), json, "{form:?} {body}");
            assert_eq!(data.is_base64(), form == Form::Binary);
        }
        let code = |form: Form, body: &[u8]| form.data(body, &limits).unwrap_err().code;
        assert_eq!(code(Form::Json, b"nope"), Code::InvalidJson);
        assert_eq!(code(Form::Text, b"\xff"), Code::BadRequest);
        assert_eq!(code(Form::Guess, b"\xff"), Code::BadRequest);
        assert_eq!(code(Form::Binary, &vec![0; limits.event_bytes]), Code::TooLarge);
    }
}
