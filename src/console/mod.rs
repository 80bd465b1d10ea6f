//! The pages of the broker: the console, the API's description, and the client that other pages load.
//!
//! Static, embedded, without a build step, and without anything from another host, so that they work
//! where there is no network.

mod client;

use std::borrow::Cow;
use std::sync::OnceLock;

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderMap};

pub use client::{CLIENT, Module};

use crate::http::packed::Packed;

/// One file of a page.
#[derive(Debug)]
pub struct Asset {
    /// Where it is served.
    pub path: &'static str,
    content_type: &'static str,
    source: &'static str,
    served: OnceLock<Packed>,
}

macro_rules! asset {
    ($path:literal, $content_type:expr, $source:literal) => {
        Asset {
            path: $path,
            content_type: $content_type,
            source: include_str!($source),
            served: OnceLock::new(),
        }
    };
}

/// What pages may do: nothing but what they were served with, and talk to this broker. No text may become markup or a script
/// there, by whatever name.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The files of the console, by path.
pub static CONSOLE: [Asset; 21] = [
    asset!("/", HTML, "index.html"),
    asset!("/console.css", CSS, "console.css"),
    asset!("/console.js", JAVASCRIPT, "console.js"),
    asset!("/console/ask.js", JAVASCRIPT, "ask.js"),
    asset!("/console/chart.js", JAVASCRIPT, "chart.js"),
    asset!("/console/dialogs.js", JAVASCRIPT, "dialogs.js"),
    asset!("/console/dom.js", JAVASCRIPT, "dom.js"),
    asset!("/console/events.js", JAVASCRIPT, "events.js"),
    asset!("/console/eventtable.js", JAVASCRIPT, "eventtable.js"),
    asset!("/console/nodes.js", JAVASCRIPT, "nodes.js"),
    asset!("/console/numbers.js", JAVASCRIPT, "numbers.js"),
    asset!("/console/overview.js", JAVASCRIPT, "overview.js"),
    asset!("/console/parts.js", JAVASCRIPT, "parts.js"),
    asset!("/console/publish.js", JAVASCRIPT, "publish.js"),
    asset!("/console/sessions.js", JAVASCRIPT, "sessions.js"),
    asset!("/console/settings.js", JAVASCRIPT, "settings.js"),
    asset!("/console/token.js", JAVASCRIPT, "token.js"),
    asset!("/console/topic.js", JAVASCRIPT, "topic.js"),
    asset!("/console/topics.js", JAVASCRIPT, "topics.js"),
    asset!("/console/webhooks.js", JAVASCRIPT, "webhooks.js"),
    asset!("/console/words.js", JAVASCRIPT, "words.js"),
];

/// The files of the API's description, by path.
pub static DOCS: [Asset; 4] = [
    asset!("/docs", HTML, "../../openapi/docs.html"),
    asset!("/docs.css", CSS, "../../openapi/docs.css"),
    asset!("/docs.js", JAVASCRIPT, "../../openapi/docs.js"),
    asset!("/openapi.json", "application/json", "../../openapi/openapi.json"),
];

impl Asset {
    /// The file, for who asks with these headers.
    pub fn response(&'static self, headers: &HeaderMap) -> HttpResponse {
        let mut answer = HttpResponse::Ok();
        answer
            .content_type(self.content_type)
            .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
            .insert_header((header::CROSS_ORIGIN_EMBEDDER_POLICY, "require-corp"))
            .insert_header((header::CACHE_CONTROL, "no-cache"));
        self.served.get_or_init(|| self.prepare()).answer(headers, &mut answer)
    }

    /// What the console loads goes without what nobody reads there: comments, indentation, long private names.
    fn prepare(&self) -> Packed {
        Packed::new(match self.content_type {
            JAVASCRIPT if self.is_of_the_console() => {
                Cow::Owned(client::compact_module(self.source))
            }
            CSS if self.is_of_the_console() => {
                let lines = client::lines_of_code(self.source);
                Cow::Owned(lines.flat_map(|line| [line, "\n"]).collect())
            }
            _ => Cow::Borrowed(self.source),
        })
    }

    fn is_of_the_console(&self) -> bool {
        self.path.starts_with("/console")
    }
}

#[cfg(test)]
mod tests {
    /// A module that another one names and nobody serves would be missed only in browsers.
    #[test]
    fn what_the_console_loads_is_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console");
        let scripts = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let scripts = scripts.filter(|path| path.extension().is_some_and(|end| end == "js"));
        for script in scripts {
            let name = script.file_name().unwrap().to_str().unwrap();
            let folder = if name == "console.js" { "" } else { "/console" };
            let served = format!("{folder}/{name}");
            assert!(super::CONSOLE.iter().any(|asset| asset.path == served), "{served}");
            let text = std::fs::read_to_string(&script).unwrap();
            for import in text.lines().filter(|line| line.starts_with("import ")) {
                let from = import.split('"').nth(1).unwrap();
                let path = from.strip_prefix('.').map(|rest| format!("{folder}{rest}")).unwrap();
                let is_served = super::CONSOLE.iter().any(|asset| asset.path == path);
                assert!(is_served || path == "/fanfare.js", "{name} names {path}");
            }
        }
    }

    /// What begins within a text that goes over several lines can't be told from a comment.
    #[test]
    fn no_script_of_the_console_has_a_text_of_several_lines() {
        for asset in &super::CONSOLE {
            let is_script = asset.content_type == super::JAVASCRIPT;
            let mut lines = asset.source.lines().filter(|_| is_script);
            let odd = lines.find(|line| line.matches('`').count() % 2 == 1);
            assert!(odd.is_none(), "{}: {odd:?}", asset.path);
        }
    }

    /// `Cargo.toml` alone says which version this is; `UPDATE_DOCS=1` writes it into the description.
    #[test]
    fn the_description_has_the_version_of_the_binary() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
        let text = std::fs::read_to_string(path).unwrap();
        let description: serde_json::Value = serde_json::from_str(&text).unwrap();
        let (said, version) = (description["info"]["version"].as_str(), env!("CARGO_PKG_VERSION"));
        if let (Some(said), true) = (said, std::env::var_os("UPDATE_DOCS").is_some()) {
            let line = |version: &str| format!("\"version\": \"{version}\"");
            std::fs::write(path, text.replacen(&line(said), &line(version), 1)).unwrap();
        }
        assert_eq!(said, Some(version), "run: UPDATE_DOCS=1 cargo test --lib console");
    }
}
