//! The broker's own client, which it serves to the pages that talk to it (`clients/js`).
//!
//! What is served is the source without indentation, the lines that are comments and the spaces and ends of lines that mean nothing, and
//! with short names for what is private to a class, which would be more than a third of what each page loads; and the modules that every
//! page needs are one, or it would ask for one after the other. Types keep their comments, for editors show them.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::OnceLock;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use aws_lc_rs::digest;

use super::JAVASCRIPT;
use crate::http::cache::EntityTag;
use crate::http::packed::{Packed, VARY};

const TYPES: &str = "application/typescript; charset=utf-8";

/// Pages of every origin may load the client: it is the same for all, holds nothing of this broker's, and is what tells a page that
/// is not let in why. A page of a listed origin is named instead, as everywhere.
const FOR_ALL: (HeaderName, HeaderValue) =
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));

/// Where Deno finds the types of what it imports from a URL.
const X_TYPESCRIPT_TYPES: HeaderName = HeaderName::from_static("x-typescript-types");

/// One module of the client, or its types.
#[derive(Debug)]
pub struct Module {
    /// Where it is served.
    pub path: &'static str,
    content_type: &'static str,
    /// What it consists of; the last one exports, and imports what comes before.
    sources: &'static [&'static str],
    served: OnceLock<(Packed, EntityTag)>,
}

macro_rules! modules {
    ($($path:literal: $content_type:expr, [$($source:literal),+]),+ $(,)?) => {
        /// The files of the client, by path.
        pub static CLIENT: [Module; [$($path),+].len()] = [$(Module {
            path: concat!("/", $path),
            content_type: $content_type,
            sources: &[$(include_str!(concat!("../../clients/js/", $source))),+],
            served: OnceLock::new(),
        }),+];
    };
}

modules! {
    "fanfare.js": JAVASCRIPT, [
        "fanfare/backoff.js", "fanfare/link.js", "fanfare/resume.js", "fanfare/wake.js", "fanfare.js"
    ],
    "fanfare.d.ts": TYPES, ["fanfare.d.ts"],
    "fanfare/batches.d.ts": TYPES, ["fanfare/batches.d.ts"],
    "fanfare/batches.js": JAVASCRIPT, ["fanfare/batches.js"],
    "fanfare/cbor.js": JAVASCRIPT, ["fanfare/cbor.js"],
    "fanfare/cbor.d.ts": TYPES, ["fanfare/cbor.d.ts"],
    "fanfare/elements.d.ts": TYPES, ["fanfare/elements.d.ts"],
    "fanfare/elements.js": JAVASCRIPT, ["fanfare/elements.js"],
    "fanfare/eventstream.js": JAVASCRIPT, ["fanfare/eventstream.js"],
    "fanfare/feed.js": JAVASCRIPT, ["fanfare/feed.js"],
    "fanfare/hub.js": JAVASCRIPT, ["fanfare/hub.js"],
    "fanfare/options.js": JAVASCRIPT, ["fanfare/options.js"],
    "fanfare/publishing.js": JAVASCRIPT, ["fanfare/publishing.js"],
    "fanfare/raw.js": JAVASCRIPT, ["fanfare/raw.js"],
    "fanfare/react.d.ts": TYPES, ["fanfare/react.d.ts"],
    "fanfare/react.js": JAVASCRIPT, ["fanfare/react.js"],
    "fanfare/stores.d.ts": TYPES, ["fanfare/stores.d.ts"],
    "fanfare/stores.js": JAVASCRIPT, ["fanfare/stores.js"],
    "fanfare/reading.js": JAVASCRIPT, [
        "fanfare/options.js", "fanfare/raw.js", "fanfare/reading.js"
    ],
    "fanfare/resume.js": JAVASCRIPT, ["fanfare/resume.js"],
    "fanfare/shared.js": JAVASCRIPT, ["fanfare/shared.js"],
    "fanfare/shared.d.ts": TYPES, ["fanfare/shared.d.ts"],
    "fanfare/streams.js": JAVASCRIPT, ["fanfare/eventstream.js", "fanfare/streams.js"],
    "fanfare/svelte.d.ts": TYPES, ["fanfare/svelte.d.ts"],
    "fanfare/svelte.js": JAVASCRIPT, ["fanfare/svelte.js"],
    "fanfare/tokens.js": JAVASCRIPT, ["fanfare/tokens.js"],
    "fanfare/vue.d.ts": TYPES, ["fanfare/vue.d.ts"],
    "fanfare/vue.js": JAVASCRIPT, ["fanfare/vue.js"],
}

impl Module {
    /// The file, or that who asks with these headers has it already. It is asked for again with each load of a page, so
    /// that a page and its broker are of one version.
    pub fn response(&'static self, headers: &HeaderMap) -> HttpResponse {
        let (text, tag) = self.served.get_or_init(|| self.prepare());
        let is_known = tag.is_known(headers);
        let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        let mut answer = HttpResponse::build(status);
        answer
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .insert_header((header::ETAG, tag.as_str()))
            .insert_header(FOR_ALL)
            .insert_header(VARY);
        if is_known {
            return answer.finish();
        }
        if let Some(types) = self.types() {
            answer.insert_header((X_TYPESCRIPT_TYPES, types));
        }
        text.answer(headers, answer.content_type(self.content_type))
    }

    /// Where its types are, from where it is, if it has any.
    fn types(&self) -> Option<HeaderValue> {
        let path = format!("{}.d.ts", self.path.strip_suffix(".js")?);
        let name = path.rsplit_once('/').map(|(_, name)| format!("./{name}"))?;
        CLIENT.iter().any(|other| other.path == path).then(|| HeaderValue::from_str(&name).ok())?
    }

    fn prepare(&self) -> (Packed, EntityTag) {
        let text = match self.content_type {
            JAVASCRIPT => compact(&joined(self.sources)),
            _ => self.sources.concat(),
        };
        let mut of_text = [0; 32];
        of_text.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        let tag = EntityTag::of(&of_text);
        (Packed::new(Cow::Owned(text)), tag)
    }
}

/// A script in fewer bytes, whose comments are gone already.
fn compact(script: &str) -> String {
    with_short_names(&with_long_lines(script))
}

/// A module in fewer bytes: what it imports and exports keeps its names.
pub(super) fn compact_module(source: &str) -> String {
    compact(&without_comments(source))
}

/// Modules as one: those before the last are no modules any more, and nobody imports them.
fn joined(sources: &[&str]) -> String {
    let Some((last, parts)) = sources.split_last() else { return String::new() };
    if parts.is_empty() {
        return without_comments(last);
    }
    let parts = parts.iter().map(|part| without_comments(part).replace("\nexport ", "\n"));
    let parts: String =
        parts.map(|part| part.strip_prefix("export ").unwrap_or(&part).to_owned()).collect();
    let is_kept = |line: &&str| !line.starts_with("import{") && !line.starts_with("import {");
    let last: String =
        without_comments(last).lines().filter(is_kept).flat_map(|line| [line, "\n"]).collect();
    parts + &last
}

/// A source without indentation, the lines that are comments and nothing else, and the spaces around punctuation.
fn without_comments(source: &str) -> String {
    lines_of_code(source).flat_map(|line| [tight(line), "\n".into()]).collect()
}

/// The lines of a source that are no comments, without indentation.
pub(super) fn lines_of_code(source: &str) -> impl Iterator<Item = &str> {
    let mut is_within = false;
    let is_code = move |line: &&str| {
        let text = line.trim();
        let begins = text.starts_with("/*");
        let was_within = is_within || begins;
        is_within = was_within && !text.ends_with("*/");
        !was_within && !text.starts_with("//") && !text.is_empty()
    };
    source.lines().filter(is_code).map(str::trim_start)
}

/// What a letter of a script stands in, if it is no code of the line itself.
enum Within {
    /// A text, up to this quotation mark.
    Text(char),
    /// What is put into a template, `${…}`: code, with so many braces open.
    Hole(usize),
}

/// A line without the spaces beside punctuation, but in texts with all that is put into them. A line with a slash outside of
/// these may have a regular expression or a comment, and stays as it is.
fn tight(line: &str) -> String {
    const PUNCTUATION: &[u8] = b"=?:,;{}()&|<>*+-[]";
    let mut within: Vec<Within> = Vec::new();
    let (mut is_escaped, mut is_after_dollar) = (false, false);
    let mut tight = String::with_capacity(line.len());
    let bytes = line.as_bytes();
    let byte_at = |at: Option<usize>| at.and_then(|at| bytes.get(at)).copied().unwrap_or(b'a');
    // Two signs side by side would be another one.
    let is_nothing = |at: usize| {
        let beside = [byte_at(at.checked_sub(1)), byte_at(at.checked_add(1))];
        beside.iter().any(|byte| PUNCTUATION.contains(byte))
            && !beside.iter().all(|byte| b"+-".contains(byte))
    };
    for (at, letter) in line.char_indices() {
        let was_escaped = is_escaped;
        match (within.last_mut(), letter) {
            (Some(Within::Text(_)), _) if is_escaped => is_escaped = false,
            (Some(Within::Text(_)), '\\') => is_escaped = true,
            (Some(Within::Text(end)), _) if letter == *end => _ = within.pop(),
            (Some(Within::Text('`')), '{') if is_after_dollar => within.push(Within::Hole(0)),
            (Some(Within::Text(_)), _) => {}
            (None, '/') => return line.to_owned(),
            (_, '"' | '`' | '\'') => within.push(Within::Text(letter)),
            (None, ' ') if is_nothing(at) => continue,
            (Some(Within::Hole(open)), '{') => *open = open.saturating_add(1),
            (Some(Within::Hole(0)), '}') => _ = within.pop(),
            (Some(Within::Hole(open)), '}') => *open = open.saturating_sub(1),
            _ => {}
        }
        is_after_dollar = letter == '$' && !was_escaped;
        tight.push(letter);
    }
    if within.is_empty() { tight } else { line.to_owned() }
}

/// A script without the ends of lines that mean nothing, and with `let` for `const`, which is shorter and no different to who reads what
/// works. What is imported and exported keeps its line, as does one that may have a comment.
fn with_long_lines(script: &str) -> String {
    let goes_on = |line: &str| line.ends_with([';', ',', '{', '}', '(', ')', '>']);
    let stands_alone = |line: &str| line.starts_with("import") || line.starts_with("export");
    let mut long = String::with_capacity(script.len());
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        let next = lines.peek().copied().unwrap_or("export");
        if stands_alone(line) || line.contains("//") {
            long.extend([line, "\n"]);
            continue;
        }
        let is_last = next.starts_with('}');
        let line = line.strip_suffix(';').filter(|_| is_last).unwrap_or(line);
        let begun = line.strip_prefix("const").filter(|rest| rest.starts_with([' ', '{', '[']));
        match begun {
            Some(rest) => long.extend(["let", rest]),
            None => long.push_str(line),
        }
        if stands_alone(next) || !(is_last || goes_on(line)) {
            long.push('\n');
        }
    }
    long.replace("(const ", "(let ").replace("(const[", "(let[").replace("(const{", "(let{")
}

/// A script with `#a`, `#b` and so on for the private names of its classes, which nobody else can name: the shorter the more often they are
/// there. Only what is asked of an object somewhere (`this.#name`) is one; anything else with such a sign stays.
fn with_short_names(script: &str) -> String {
    let end_of_name = |text: &str| {
        text.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(text.len())
    };
    let mut names: Vec<&str> = Vec::new();
    for rest in script.split(".#").skip(1) {
        let name = &rest[..end_of_name(rest)];
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let times = |name: &&str| {
        script.split('#').skip(1).filter(|rest| rest[..end_of_name(rest)] == **name).count()
    };
    names.sort_by_cached_key(|name| Reverse(times(name)));
    let mut pieces = script.split('#');
    let mut short = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_at(end_of_name(piece));
        short.push('#');
        match names.iter().position(|other| *other == name) {
            Some(at) => short.push_str(&letters(at)),
            None => short.push_str(name),
        }
        short.push_str(rest);
    }
    short
}

/// A number in letters: `a` to `z`, then `aa` and so on.
fn letters(number: usize) -> String {
    let before = (number / 26).checked_sub(1).map(letters).unwrap_or_default();
    let letter = b'a'.saturating_add(u8::try_from(number % 26).unwrap_or_default());
    before + char::from(letter).encode_utf8(&mut [0; 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_names_are_short_and_nothing_else_is() {
        let script = "class A{\n#one=1;\n#two(){return`${this.#one} #three`;}\nhas=(a)=>#one in a;\nb=a?.#two();\n}\nc=/[#?]/;";
        let short = "class A{\n#a=1;\n#b(){return`${this.#a} #three`;}\nhas=(a)=>#a in a;\nb=a?.#b();\n}\nc=/[#?]/;";
        assert_eq!(with_short_names(script), short);
        assert_eq!(
            [0, 25, 26, 51, 52, 701, 702].map(letters),
            ["a", "z", "aa", "az", "ba", "zz", "aaa"]
        );
    }

    #[test]
    fn lines_that_are_comments_are_left_out_and_no_others() {
        let source = "// what\n\n/** One. */\nlet a = 1; // stays\n  /**\n   * More.\n   */\n  b(\"/* no */\");\n/* x */\n";
        assert_eq!(without_comments(source), "let a = 1; // stays\nb(\"/* no */\");\n");
    }

    #[test]
    fn spaces_that_mean_nothing_are_left_out_but_in_texts_and_beside_slashes() {
        assert_eq!(tight("if (a && b) return { c: 1, d };"), "if(a&&b)return{c:1,d};");
        assert_eq!(tight("a = `b : ${c}` + \" , \\\" = \";"), "a=`b : ${c}`+\" , \\\" = \";");
        assert_eq!(tight("a = b / c"), "a = b / c");
        assert_eq!(tight("a = /x : y/.test(b)"), "a = /x : y/.test(b)");
        assert_eq!(
            tight("a = `b : ${c ? `, ${d}` : { e }} ; `;"),
            "a=`b : ${c ? `, ${d}` : { e }} ; `;"
        );
        assert_eq!(tight("a = `\\${ : , }` + b"), "a=`\\${ : , }`+b");
        assert_eq!(tight("a - -b + +c++ + d * [e]"), "a- -b+ +c++ +d*[e]");
    }

    #[test]
    fn lines_that_go_on_are_one_but_imports_exports_and_those_with_comments() {
        let script = "import a from \"a\";\nconst b=1;\nfor(const c of d){\ne(f,\ng);\n}\nconst h=\n1;\ni; // j;\nk;\nexport{b};\n";
        let long = "import a from \"a\";\nlet b=1;for(let c of d){e(f,g)}let h=\n1;i; // j;\nk;\nexport{b};\n";
        assert_eq!(with_long_lines(script), long);
    }

    /// What is left out is found line by line: a text that goes over lines would lose spaces and indentation.
    #[test]
    fn no_text_of_a_script_goes_over_lines_but_in_comments() {
        for (module, source) in scripts() {
            for line in without_comments(source).lines() {
                let code = line.split(" // ").next().unwrap_or_default();
                let ticks = code.chars().filter(|letter| *letter == '`').count();
                assert_eq!(ticks % 2, 0, "{}: {line}", module.path);
            }
        }
    }

    fn scripts() -> impl Iterator<Item = (&'static Module, &'static str)> {
        let scripts = CLIENT.iter().filter(|module| module.content_type == JAVASCRIPT);
        scripts.flat_map(|module| module.sources.iter().map(move |source| (module, *source)))
    }

    /// What begins within a text that goes over several lines can't be told from a comment.
    #[test]
    fn no_module_has_a_text_of_several_lines() {
        for (module, source) in scripts() {
            let odd = source.lines().find(|line| line.matches('`').count() % 2 == 1);
            assert!(odd.is_none(), "{}: {odd:?}", module.path);
        }
    }

    /// A module that another one names and nobody serves would be missed only in browsers.
    #[test]
    fn what_a_module_loads_is_served() {
        for module in CLIENT.iter().filter(|module| module.content_type == JAVASCRIPT) {
            let folder = module.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let text = joined(module.sources);
            for rest in text.split("\".").skip(1).filter(|rest| rest.starts_with(['.', '/'])) {
                let name = rest.split('"').next().unwrap_or_default();
                // Of the modules, only `/fanfare.js` stands above the others.
                let path = name.strip_prefix('.').map_or(format!("{folder}{name}"), String::from);
                let is_served = CLIENT.iter().any(|other| other.path == path);
                assert!(is_served, "{} names {path}", module.path);
            }
            let exports = text.lines().filter(|line| line.starts_with("export")).count();
            let is_joined = module.sources.len() > 1;
            assert!(exports == 1 || exports > 1 && !is_joined, "{}: {exports}", module.path);
        }
    }
}
