//! What the binary is made of may be given away under MIT and Apache-2.0.
//!
//! The same rule as `licenses` of `deny.toml`, held without any tool that must be installed first.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// The licences that `deny.toml` allows.
fn allowed() -> Vec<String> {
    let text = include_str!("../deny.toml");
    let deny: toml::Table = text.parse().expect("deny.toml is TOML");
    let list = deny["licenses"]["allow"].as_array().expect("a list of licences");
    list.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

/// Whether an SPDX expression of names, AND, OR and brackets can be met with allowed licences alone.
/// An exception (`WITH`) only ever permits more.
fn is_met(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    either(&mut words, allowed)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut met = both(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= both(words, allowed);
    }
    met
}

fn both(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let word = words.next().unwrap_or_default();
    if word == "(" {
        let met = either(words, allowed);
        words.next_if_eq(&")");
        return met;
    }
    if words.next_if_eq(&"WITH").is_some() {
        words.next();
    }
    allowed.iter().any(|name| name == word)
}

/// The system that this machine's compiler builds for.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc says its host").to_owned()
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    // Crates for other systems are not on this machine, nor in a binary that is built here.
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .args(["--filter-platform", &host()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "only {} packages were read", packages.len());
    let allowed = allowed();
    let refused: BTreeMap<_, _> = packages
        .iter()
        .map(|package| (package["name"].as_str(), package["license"].as_str().unwrap_or("none")))
        .filter(|(_, licence)| !is_met(licence, &allowed))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned()];
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("MIT/GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("GPL-3.0 OR MIT AND ISC", true),
        ("(GPL-3.0 OR MIT) AND Apache-2.0", false),
        ("MIT WITH some-exception", true),
        ("", false),
    ] {
        assert_eq!(is_met(expression, &allowed), met, "{expression}");
    }
}
