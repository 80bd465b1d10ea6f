//! What the docs say in tables is what the code says.

use std::fs;
use std::path::{Path, PathBuf};

use actix_web::ResponseError;
use fanfare::model::{Close, Code, Problem};

#[test]
fn the_table_of_close_codes_is_the_one_in_the_code() {
    let docs = include_str!("../docs/protocol.md");
    let is_row = |line: &&str| line.starts_with("| 1") || line.starts_with("| 4");
    let rows: Vec<_> = docs.lines().filter(is_row).collect();
    let expected = Close::ALL.map(|close| {
        let again = if close.retry_after_ms().is_some() { "yes" } else { "no" };
        format!("| {} | `{}` | {} | {again} |", close.code(), close.name(), close.message())
    });
    assert_eq!(rows, expected);
}

const TROUBLES: &str = include_str!("../docs/troubleshooting.md");

#[test]
fn every_code_of_a_refusal_has_its_section_with_its_status() {
    for code in Code::ALL {
        let status = Problem::new(code, "").status_code().as_u16();
        let (name, status) = (format!("`{}`", code.as_str()), format!("({status})"));
        let is_its = |line: &str| {
            line.starts_with("### ") && line.contains(&name) && line.ends_with(&status)
        };
        assert!(TROUBLES.lines().any(is_its), "docs/troubleshooting.md: ### {name} {status}");
    }
}

#[test]
fn every_text_of_a_refusal_is_in_the_docs() {
    let mut missing = Vec::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let code = fs::read_to_string(&path).expect("a source");
        let code = code.split("#[cfg(test)]\nmod tests").next().expect("something");
        let texts = ["Problem::new(", "let detail =", "bad(", "unauthorized(", "refusal(", "full("]
            .iter()
            .flat_map(|anchor| code.split(anchor).skip(1))
            .filter_map(literal);
        missing.extend(texts.filter(|text| !TROUBLES.contains(fixed(text))));
    }
    assert!(missing.is_empty(), "docs/troubleshooting.md lacks: {missing:#?}");
}

/// The sources of the broker, without those of its tools and tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let is_other = |path: &PathBuf| path.ends_with("src/cli") || path.ends_with("tests.rs");
    entries
        .map(|entry| entry.path())
        .filter(|path| !is_other(path))
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .collect()
}

/// The literal that code begins with, behind what may stand before it.
fn literal(code: &str) -> Option<String> {
    let mut code = code.trim_start();
    if let Some(rest) = code.strip_prefix("Code::") {
        code = rest.split_once(',')?.1.trim_start();
    }
    code = code.strip_prefix("format!(").unwrap_or(code).trim_start().strip_prefix('"')?;
    let (mut text, mut rest) = (String::new(), code.chars());
    loop {
        match rest.next()? {
            '"' => return Some(text),
            '\\' => match rest.next()? {
                '\n' => rest = rest.as_str().trim_start().chars(),
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

/// The longest part of a format that is always the same.
fn fixed(text: &str) -> &str {
    let parts = text.split(['{', '}']).step_by(2);
    parts.max_by_key(|part| part.len()).unwrap_or_default().trim_matches([' ', '`'])
}

#[test]
fn every_client_in_the_docs_is_one_that_is_tried() {
    let docs = include_str!("../docs/clients.md");
    let mut count = 0;
    for part in docs.split("[`tests/clients/").skip(1) {
        let (path, rest) = part.split_once('`').expect("a name");
        if let Some(begin) = rest.split_once(":\n\n```").map(|(_, begin)| begin) {
            let (_, block) = begin.split_once('\n').expect("a language");
            let (block, _) = block.split_once("\n```").expect("its end");
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(path);
            let file = fs::read_to_string(path).expect("a program");
            assert!(unindented(&file).contains(&unindented(block)), "docs/clients.md: {block}");
            count += 1;
        }
    }
    assert!(count > 15, "of so many libraries");
}

/// The text without the white space at the beginning of its lines.
fn unindented(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim())).collect()
}
