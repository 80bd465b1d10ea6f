//! The words of Fanfare: topics, patterns, events, cursors, and why we hang up or refuse.
//!
//! Plain values with one way in (`parse`) and no actor, clock or I/O. Whatever holds one of these
//! types holds something legal; nothing further in checks again.

mod allowance;
mod audience;
mod bearer;
mod close;
mod cursor;
mod data;
mod envelope;
mod event;
mod event_type;
mod notice;
mod number;
mod pattern;
mod presence;
mod problem;
mod publish_key;
mod quiet;
mod start;
mod text;
mod timestamp;
mod topic;
mod trace;
mod trouble;

pub use allowance::Allowance;
pub use audience::Audience;
pub use bearer::{Bearer, Revocation, Revoked};
pub use close::{Close, Ended};
pub use cursor::{Cursor, CursorError, LogName};
pub use data::{Data, DataError, unmarked};
pub use envelope::{Envelope, Member, Removed, Sender, Version};
pub use event::{Event, Latest, NewEvent, Terms};
pub use event_type::{EventType, EventTypeError};
pub use notice::NoticeKind;
pub use number::{MAX_WHOLE, whole_number};
pub use pattern::{Pattern, PatternError};
pub use presence::{Attendee, Change, Info, Present};
pub use problem::{Code, NotLatest, Problem};
pub use publish_key::{PublishKey, PublishKeyError};
pub use quiet::{QUIET, Quiet, Summary};
pub use start::{Since, Start, TIME_UNITS, span};
pub use timestamp::Timestamp;
pub use topic::{Topic, TopicError};
pub use trace::{SpanContext, Trace};
pub use trouble::Trouble;
