//! Fanfare, a live-updates publish/subscribe broker for dashboards.
//!
//! The modules, in the order of an event's road; `docs/architecture.md` walks along it.

// Tests and examples may give up, the broker may not: so these lints are not in Cargo.toml.
#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
// Whoever serves must not wait for who reads: `lines` writes what is said, `cli::print` what was asked for.
#![warn(clippy::print_stderr, clippy::print_stdout)]
// A function is seen at once; one that is better longer says why. Tests may be tables of many lines.
#![cfg_attr(not(test), warn(clippy::too_many_lines))]

pub mod cli; // the commands: serve, publish, subscribe, check, bench
pub mod config; // what the operator decided, checked
pub mod server; // the wiring, the one route table, the stop
pub mod http; // what every HTTP path shares: queries, credentials, problems
pub mod auth; // who asks, and what they may do
pub mod body; // the body of a request, and what its sender may do once it is whole
pub mod ingress; // 1. events come in: REST
pub mod history; // 2. they are kept: the log, numbered, and its feed
pub mod broker; // 3. who gets them: from the feed to the sessions
pub mod session; // 4. one connected client: door, actor, outbox, transports
pub mod protocol; // 5. bytes to meaning and back: native JSON, CBOR, SSE
pub mod cluster; // the other nodes, and what is asked of their sessions
pub mod traces; // where the time of an event went, for a collector of OpenTelemetry
pub mod notices; // what the broker says about itself, and webhooks
pub mod vitals; // how this node is, said once a second
pub mod supervisor; // what started us, told when we serve, and that we live
pub mod admin; // sessions, presence, tickets, revocations, health, metrics
pub mod console; // the embedded pages
pub mod model; // the words: Topic, Pattern, Event, Cursor, Close, Problem
pub mod trust; // whom our own clients believe
pub mod metrics; // what the broker counts about itself
pub mod lines; // log lines, and the one thread that writes them
pub mod panics; // what a panic means: the end of a connection, or of the process
pub mod clock; // what time it is
