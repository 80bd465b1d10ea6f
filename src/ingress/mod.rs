//! How events come in, and how they are read back: the REST paths of topics and events, and what an
//! application's own Redis has.
//!
//! Each handler parses at the edge, asks what the caller may do, and leaves the rest to the broker.
//! A batch is validated whole before any of it is stored.

mod batch;
mod body_format;
mod idempotency;
mod overhear;
mod publish;
mod read;
pub mod redis;
mod rule;
mod snapshot;
mod tree;

pub use self::batch::Batch;
pub use self::body_format::BodyFormat;
pub use self::overhear::overhear;
pub use self::publish::{publish_batch, publish_event, remove_value};
pub use self::read::{
    forget_events, list_topics, read_cursor, read_events, read_matching_events, read_topic,
};
pub use self::rule::read_rule;
pub use self::snapshot::read_snapshot;
pub use self::tree::read_tree;
