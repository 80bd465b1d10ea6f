//! Texts that never change, served in gzip to whoever reads it (RFC 9110, section 12.5.3).

use std::borrow::Cow;
use std::io::Write;
use std::sync::OnceLock;

use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::grammar;

/// A text and what it is in gzip, which is found out when somebody asks for that first.
#[derive(Debug)]
pub struct Packed {
    text: Cow<'static, str>,
    gzip: OnceLock<Option<Bytes>>,
}

impl Packed {
    /// This text.
    pub const fn new(text: Cow<'static, str>) -> Self {
        Self { text, gzip: OnceLock::new() }
    }

    /// The text as it is.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Ends an answer with the text, in gzip where who asks with these headers reads that.
    pub fn answer(
        &'static self,
        headers: &HeaderMap,
        answer: &mut HttpResponseBuilder,
    ) -> HttpResponse {
        answer.insert_header(VARY);
        let gzip = || self.gzip.get_or_init(|| packed(&self.text)).as_ref();
        match grammar::accepts_coding(headers, "gzip").then(gzip).flatten() {
            Some(gzip) => {
                answer.insert_header((header::CONTENT_ENCODING, "gzip")).body(gzip.clone())
            }
            None => answer.body(self.text()),
        }
    }
}

/// What the answer depends on, where it is one of several.
pub const VARY: (header::HeaderName, HeaderValue) =
    (header::VARY, HeaderValue::from_static("Accept-Encoding"));

/// A text in gzip, as small as it gets. To pack into memory does not fail; if it did, the text would be served as it is.
fn packed(text: &str) -> Option<Bytes> {
    let mut packing = GzEncoder::new(Vec::new(), Compression::best());
    packing.write_all(text.as_bytes()).ok()?;
    packing.finish().ok().map(Bytes::from)
}
