//! What caches may do with an answer (RFC 9111), and who has it already (RFC 9110, section 13).

use actix_web::HttpResponseBuilder;
use actix_web::http::header::{self, HeaderMap, HeaderValue};

use super::grammar;

/// How many bytes of a digest tell one answer from another.
const DIGEST_BYTES: usize = 16;

/// What stands for an answer, whoever gives it: two with the same tag are as good as each other, though not always the
/// same bytes (a weak one; RFC 9110, section 8.8.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag(String);

impl EntityTag {
    /// The tag of what has this digest.
    pub fn of(digest: &[u8; 32]) -> Self {
        let digest = digest.iter().take(DIGEST_BYTES);
        let digits: String = digest.map(|byte| format!("{byte:02x}")).collect();
        Self(format!("W/\"{digits}\""))
    }

    /// As headers have it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether who asks has this answer already, as `If-None-Match` says (section 13.1.2).
    pub fn is_known(&self, headers: &HeaderMap) -> bool {
        let mut known = grammar::list(headers, &header::IF_NONE_MATCH);
        known.any(|tag| tag == "*" || opaque(tag) == opaque(&self.0))
    }
}

/// What a tag is compared by where it need not be the same bytes (section 8.8.3.2).
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// Who may keep an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keepers {
    /// Anyone, a second long: it is the same for all.
    All,
    /// Nobody: it is for who asked.
    Nobody,
}

impl Keepers {
    fn cache_control(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Keepers::All => "public, max-age=1",
            Keepers::Nobody => "private, no-store",
        })
    }
}

/// What another answer to the same URL may depend on.
const VARY: HeaderValue = HeaderValue::from_static("Authorization, Origin, Accept-Encoding");

/// Says of an answer who may keep it, and how it is known again: on a 304 as on the answer itself (section 15.4.5).
pub fn set_cache_headers(answer: &mut HttpResponseBuilder, tag: &EntityTag, keepers: Keepers) {
    answer.insert_header((header::CACHE_CONTROL, keepers.cache_control()));
    answer.insert_header((header::VARY, VARY));
    answer.insert_header((header::ETAG, tag.0.as_str()));
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::IF_NONE_MATCH;

    use super::*;

    #[test]
    fn an_answer_is_known_by_its_tag_however_that_is_listed() {
        let tag = EntityTag::of(&[0xab; 32]);
        let name = "ab".repeat(16);
        for (lines, expected) in [
            (&[][..], false),
            (&[format!("W/\"{name}\"")], true),
            (&[format!("\"{name}\"")], true),
            (&["\"a,b\"".to_owned(), format!("\"c\" , W/\"{name}\"")], true),
            (&["*".to_owned()], true),
            (std::slice::from_ref(&name), false),
            (&[format!("w/\"{name}\"")], false),
            (&["\"\"".to_owned()], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(IF_NONE_MATCH, HeaderValue::from_str(line).unwrap());
            }
            assert_eq!(tag.is_known(&headers), expected, "{lines:?}");
        }
    }
}
