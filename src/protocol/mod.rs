//! Bytes to meaning and back: what clients say and what they are told.
//!
//! A language is one [`Protocol`] in a table: where its connections begin, the forms in which events leave, and a [`Talk`] for
//! each connection, which is pure state. Nothing here knows a clock, a socket or the broker. A new language is a folder here, and a
//! line in [`PROTOCOLS`]; `docs/architecture.md` says how to add one.

mod ask;
mod cbor;
mod command;
mod form;
mod given;
mod heads;
mod json;
mod table;
mod members;
mod native;
mod outcome;
mod query;
mod reply;
mod request;
#[cfg(test)]
mod samples;
mod spelling;
mod sse;
mod talk;

pub use ask::{Filter, Mode, Op, Opening, Request, Subscribe, Token};
pub use command::Command;
pub use form::{Annotations, Form};
pub use given::{Given, join, keep_from, put_trace};
pub use heads::MAX_HEARTBEAT_SECONDS;
pub use json::{event_object, receipt_object};
pub use native::NATIVE;
pub use outcome::Reply;
pub use query::{LAST_EVENT_ID_PARAMETER, Query};
pub use sse::{SSE, SSE_DATA, STREAM};
pub use table::{
    Brings, ByBody, Carrier, Dialect, Entry, Knock, Known, Letter, Protocol, Protocols, Wants,
    WayBack,
};
pub use talk::{Beats, ClientMessage, Out, ParseLimits, Refused, Requests, Said, Talk};

/// The protocols that are spoken.
pub const PROTOCOLS: Protocols = Protocols(&[&NATIVE, &STREAM]);
