//! `fanfare.v1`, the broker's own protocol: one JSON object a message.
//!
//! Data is passed through byte for byte in both directions: it is cut out of the message and put
//! into one again without being taken apart. A binary message that holds the same JSON is read like
//! a text one, for clients that send nothing else.

use super::heads::{brings, heartbeat, since, subscription};
use super::json::Object;
use super::members::{read, read_bytes};
use super::reply::{self, Map};
use super::request::Frame;
use super::spelling::{Plain, Spelling};
use super::{
    Annotations, Carrier, ClientMessage, Dialect, Entry, Form, Knock, Known, ParseLimits, Protocol,
    Refused, Reply, Wants, cbor,
};
use crate::model::{Event, Problem};

/// The broker's own language over WebSocket, in JSON and in CBOR.
pub static NATIVE: Protocol = Protocol {
    name: "fanfare.v1",
    entries: &[Entry {
        path: "/v1/ws",
        carrier: Carrier::WebSocket,
        query: Known::Only(&[
            "topic",
            "since",
            "snapshot",
            "last",
            "tail",
            "mode",
            "max_rate",
            "heartbeat",
            "access_token",
            "ticket",
        ]),
        dialects: &[
            Dialect { name: "fanfare.v1", form: &JSON, talk: || Box::new(Plain::<Json>::NEW) },
            Dialect {
                name: "fanfare.v1+cbor",
                form: &cbor::CBOR,
                talk: || Box::new(Plain::<cbor::Cbor>::NEW),
            },
        ],
        brings,
        wants,
        by_body: None,
        has_way_back: false,
    }],
    way_back: None,
};

static JSON: Form = Form { is_binary: false, event: Json::event };

fn wants(knock: &Knock<'_>) -> Result<Wants, Problem> {
    let subscribe = subscription(knock.query, since(knock.query)?, knock.limits)?;
    let heartbeat = heartbeat(knock.query)?;
    let dialect = knock.dialect;
    Ok(Wants { dialect, talk: (dialect.talk)(), subscribe, heartbeat })
}

/// JSON.
pub(super) struct Json;

impl Spelling for Json {
    fn event(event: &Event, annotations: &Annotations) -> Vec<u8> {
        let mut object = Object::for_event(event);
        object.ascii("op", "event");
        reply::event(event, &mut object);
        reply::annotations(annotations, &mut object);
        object.finish()
    }

    fn reply(reply: &Reply<'_>) -> Vec<u8> {
        let mut object = Object::new();
        object.ascii("op", reply::op(reply));
        reply::reply(reply, &mut object);
        object.finish()
    }

    fn read<'a>(message: ClientMessage<'a>, _: &ParseLimits) -> Result<Frame<'a>, Refused> {
        let frame = match message {
            ClientMessage::Text(text) => read(text),
            ClientMessage::Binary(bytes) => read_bytes(bytes),
        };
        frame.map_err(|problem| Refused { reference: None, problem })
    }
}

#[cfg(test)]
mod tests;
