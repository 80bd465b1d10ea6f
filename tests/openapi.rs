//! `openapi/openapi.json` and the server say the same.
//!
//! Here: paths, methods and codes. What each response holds is checked against the running broker by
//! `scripts/openapi-check`.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use fanfare::console::{CLIENT, CONSOLE, DOCS};
use fanfare::model::{Close, Code};
use fanfare::protocol::PROTOCOLS;
use reqwest::Method;
use serde_json::Value;
use support::TestServer;

fn document() -> Value {
    serde_json::from_str(include_str!("../openapi/openapi.json")).expect("JSON")
}

/// The methods of each path, as the document has them.
fn documented(document: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let paths = document["paths"].as_object().expect("paths");
    let methods = |operations: &Value| {
        let names = operations.as_object().expect("operations").keys();
        names.filter(|name| *name != "parameters").map(|name| name.to_uppercase()).collect()
    };
    paths.iter().map(|(path, operations)| (path.clone(), methods(operations))).collect()
}

/// The methods of each path on any listener, as the route table has them.
fn routed() -> BTreeMap<String, BTreeSet<String>> {
    let table = include_str!("../src/server/routes.rs");
    let mut routes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rest in table.split("path(\"").skip(1) {
        let mut strings = rest.split('"');
        let path = strings.next().expect("a path").to_owned();
        let methods = strings.nth(1).expect("methods").split(", ");
        let methods = methods.filter(|method| *method != "HEAD").map(str::to_owned);
        routes.entry(path).or_default().extend(methods);
    }
    // What these load is theirs.
    let pages = ["/", "/docs", "/openapi.json", "/fanfare.js", "/fanfare.d.ts"];
    let assets = CONSOLE.iter().chain(&DOCS).map(|asset| asset.path);
    let files = assets.chain(CLIENT.iter().map(|module| module.path));
    let files = files.filter(|path| pages.contains(path));
    let files = files.chain(PROTOCOLS.websockets().map(|entry| entry.path));
    routes.extend(files.map(|path| (path.to_owned(), BTreeSet::from(["GET".to_owned()]))));
    for entry in PROTOCOLS.streams() {
        let post = entry.by_body.as_ref().map(|_| "POST".to_owned());
        let methods = ["GET".to_owned()].into_iter().chain(post).collect();
        routes.insert(entry.path.to_owned(), methods);
    }
    routes
}

#[test]
fn every_route_is_described_and_every_description_has_a_route() {
    assert!(routed().len() > 10, "the route table was not found");
    assert_eq!(documented(&document()), routed());
}

#[test]
fn the_document_has_the_version_of_the_broker() {
    assert_eq!(document()["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_document_works_under_any_prefix() {
    assert_eq!(document()["servers"][0]["url"], ".", "the folder that the document is in");
}

/// Generators of clients take the words of a schema by halves: what breaks them is not in the document, though it
/// would be legal. `scripts/generated-clients` tries the document with some of them.
#[test]
fn nothing_in_the_document_is_known_to_break_generated_clients() {
    fn walk<'a>(place: &str, value: &'a Value, look: &mut dyn FnMut(&str, &'a Value)) {
        look(place, value);
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(name, value)| walk(&format!("{place}/{name}"), value, look));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(place, value, look)),
            _ => {}
        }
    }
    let document = document();
    let parts = &document["components"];
    let names = |kind: &str| -> BTreeSet<String> {
        parts[kind].as_object().expect("a map").keys().cloned().collect()
    };
    let taken: Vec<_> =
        ["parameters", "responses", "headers"].into_iter().flat_map(names).collect();
    let both: Vec<_> = taken.iter().filter(|name| names("schemas").contains(*name)).collect();
    assert!(both.is_empty(), "one name, two types: {both:?}");
    walk("", parts, &mut |place, value| {
        let Value::Object(schema) = value else { return };
        let named = |key: &str| {
            let choices = schema.get(key).and_then(Value::as_array);
            choices.is_none_or(|all| all.iter().all(|one| one.get("$ref").is_some()))
        };
        assert!(named("oneOf") && named("anyOf"), "{place}: each choice needs a name of its own");
        assert!(!schema.contains_key("const") || schema["type"] == "integer", "{place}: const");
        let is_title = schema.get("title").is_some_and(Value::is_string);
        assert!(!is_title || place.contains("/example"), "{place}: a title takes a schema's name");
    });
    walk("", &parts["parameters"], &mut |place, value| {
        let is_union = ["oneOf", "anyOf"].iter().any(|key| value.get(key).is_some());
        assert!(!is_union, "{place}: no generator writes a union into a query");
    });
}

#[tokio::test]
async fn every_described_path_takes_its_methods_and_no_others() {
    let server = TestServer::open();
    for (path, methods) in documented(&document()) {
        let url = path.replace("{topic}", "a").replace("{id}", "x").replace("{user}", "x");
        let refused = server.http.request(Method::PATCH, server.url(&url));
        let response = refused.send().await.expect("an answer");
        // The pages answer 405 too, so a path that is not there would show as 404.
        assert_eq!(response.status(), 405, "{path}");
        let allowed = response.headers()["allow"].to_str().expect("text").to_owned();
        let allowed: BTreeSet<String> =
            allowed.split(", ").filter(|name| *name != "HEAD").map(str::to_owned).collect();
        assert_eq!(allowed, methods, "{path}");
    }
}

#[test]
fn the_document_has_every_code_and_no_other() {
    let document = document();
    let listed = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].clone();
    let listed: BTreeSet<String> = serde_json::from_value(listed).expect("names");
    let codes = Code::ALL.iter().map(|code| code.as_str().to_owned());
    assert_eq!(listed, codes.collect());
}

#[test]
fn the_document_has_every_close_name() {
    let text = include_str!("../openapi/openapi.json");
    for close in Close::ALL {
        assert!(text.contains(close.name()), "{}", close.name());
    }
}

#[test]
fn every_member_that_a_client_may_send_is_described() {
    let source = include_str!("../src/protocol/request.rs");
    let (_, rest) = source.split_once("const MEMBERS").expect("the members");
    let (list, _) = rest.split_once("];").expect("their end");
    let members: BTreeSet<_> = list.split('"').skip(1).step_by(2).collect();
    assert!(members.len() > 20, "the members were not found");
    let document = document();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let asked = schemas.iter().filter(|(name, _)| {
        let kinds = ["Auth", "Subscribe", "Unsubscribe", "Publish", "Ping"];
        let is_message = kinds.iter().any(|kind| **name == format!("{kind}Message"));
        let is_command = name.ends_with("Command") && **name != "Command";
        is_message || is_command || *name == "StreamRequest"
    });
    let described: BTreeSet<_> = asked
        .flat_map(|(_, schema)| schema["properties"].as_object().expect("properties").keys())
        .map(String::as_str)
        .collect();
    assert_eq!(members, described);
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn walk(value: &Value, references: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                references.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| walk(value, references));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, references)),
            _ => {}
        }
    }
    let document = document();
    let mut references = Vec::new();
    walk(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}
