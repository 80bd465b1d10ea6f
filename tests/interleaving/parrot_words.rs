//! What is said in Parrot, in the words of Fanfare's own language: so that one watch serves both.

use serde_json::{Value, json};

/// The number of the `hello` by which a client comes in.
pub const KNOCK: u64 = 1_000_000;

/// A request in Parrot.
pub fn asked(members: &Value) -> Value {
    let number = &members["ref"];
    match members["op"].as_str().expect("an op") {
        "auth" => json!({ "n": number, "hello": { "token": members["token"] } }),
        "subscribe" => {
            json!({ "n": number, "follow": members["topics"], "from": members["since"] })
        }
        "unsubscribe" => json!({ "n": number, "unfollow": members["topics"] }),
        "publish" => {
            let squawk = json!({ "topic": members["topic"], "data": members["data"] });
            json!({ "n": number, "squawk": squawk })
        }
        // Who says hello again is only answered.
        _ => json!({ "n": number, "hello": {} }),
    }
}

fn event(squawk: &Value) -> Value {
    let (topic, data) = (&squawk["bird"], &squawk["says"]);
    json!({ "op": "event", "topic": topic, "data": data, "id": squawk["id"] })
}

fn gap(number: Option<&Value>, gap: &Value) -> Value {
    let mut said = json!({ "op": "gap", "since": gap["since"] });
    if gap["of"].as_array().is_some_and(|of| !of.is_empty()) {
        said["topics"] = gap["of"].clone();
    }
    if let Some(number) = number {
        said["ref"] = number.clone();
    }
    said
}

/// A message in the words of Fanfare's own language.
pub fn heard(message: &Value) -> Vec<Value> {
    let number = &message["n"];
    let members = message.as_object().expect("a message is an object");
    let has = |name: &str| members.contains_key(name);
    if has("hello") && number == KNOCK {
        return vec![json!({ "op": "welcome", "session": message["hello"]["session"] })];
    }
    if has("heard") {
        let mut said = vec![json!({ "op": "ack", "ref": number })];
        if has("gap") {
            said.push(gap(Some(number), &message["gap"]));
        }
        said.extend(message["heard"].as_array().expect("a list").iter().map(event));
        if has("live") {
            said.push(json!({ "op": "live", "ref": number, "cursor": message["live"] }));
        }
        return said;
    }
    let said = if has("bird") {
        event(message)
    } else if has("live") {
        json!({ "op": "live", "ref": number, "cursor": message["live"] })
    } else if has("hello") || has("done") {
        json!({ "op": "ack", "ref": number, "id": message["id"] })
    } else if has("no") {
        let (code, why) = (&message["code"], &message["no"]);
        json!({ "op": "error", "ref": number, "code": code, "message": why })
    } else if has("lost") {
        json!({ "op": "error", "code": "forbidden", "message": message["lost"] })
    } else if has("gap") {
        gap(None, &json!({ "since": message["gap"], "of": message["of"] }))
    } else if has("at") {
        json!({ "op": "cursor", "cursor": message["at"] })
    } else if has("bye") {
        json!({ "op": "bye", "code": message["bye"] })
    } else {
        json!({ "op": "other" })
    };
    vec![said]
}
