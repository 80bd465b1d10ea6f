//! Why a request is refused: a stable code for programs and a sentence for people.

use std::fmt;
use std::sync::Arc;

use super::{CursorError, DataError, Event, EventTypeError, PatternError, Topic, TopicError};

/// The stable name of a refusal, the same over HTTP (`code` of RFC 9457's problem) and WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A parameter, header or member that can't be read.
    BadRequest,
    /// A body or frame that is not JSON (or CBOR) where it must be.
    InvalidJson,
    /// A cursor that no log gave.
    InvalidCursor,
    /// No credential, or one that is not valid.
    Unauthorized,
    /// The credential does not grant this.
    Forbidden,
    /// The page that asks is not from a listed origin.
    OriginNotAllowed,
    /// There is no such thing.
    NotFound,
    /// The path does not take this method.
    MethodNotAllowed,
    /// The same idempotency key came with other events.
    IdempotencyMismatch,
    /// A request with the same idempotency key still runs.
    InProgress,
    /// What has to be the newest event of a topic is not.
    NotLatest,
    /// Over a limit of size.
    TooLarge,
    /// Over the limit of size of a request's head, or of the number of its fields.
    HeadTooLarge,
    /// The request did not come in time.
    TooSlow,
    /// A media type that this path does not take.
    UnsupportedMediaType,
    /// The path speaks WebSocket alone.
    UpgradeRequired,
    /// Not a topic.
    InvalidTopic,
    /// Not a pattern.
    InvalidPattern,
    /// Not an event.
    InvalidEvent,
    /// Over a limit of number or rate.
    TooMany,
    /// Certainly not done; try again later.
    Unavailable,
    /// Certainly not done: there is no space.
    StorageFull,
    /// Done whole or not at all; repeat with the same idempotency key.
    OutcomeUnknown,
    /// A fault of the broker's own.
    Internal,
}

impl Code {
    /// Every code.
    pub const ALL: [Code; 24] = [
        Code::BadRequest,
        Code::InvalidJson,
        Code::InvalidCursor,
        Code::Unauthorized,
        Code::Forbidden,
        Code::OriginNotAllowed,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::IdempotencyMismatch,
        Code::InProgress,
        Code::NotLatest,
        Code::TooLarge,
        Code::HeadTooLarge,
        Code::TooSlow,
        Code::UnsupportedMediaType,
        Code::UpgradeRequired,
        Code::InvalidTopic,
        Code::InvalidPattern,
        Code::InvalidEvent,
        Code::TooMany,
        Code::Unavailable,
        Code::StorageFull,
        Code::OutcomeUnknown,
        Code::Internal,
    ];

    /// The code as it travels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::BadRequest => "bad_request",
            Code::InvalidJson => "invalid_json",
            Code::InvalidCursor => "invalid_cursor",
            Code::Unauthorized => "unauthorized",
            Code::Forbidden => "forbidden",
            Code::OriginNotAllowed => "origin_not_allowed",
            Code::NotFound => "not_found",
            Code::MethodNotAllowed => "method_not_allowed",
            Code::IdempotencyMismatch => "idempotency_mismatch",
            Code::InProgress => "in_progress",
            Code::NotLatest => "not_latest",
            Code::TooLarge => "too_large",
            Code::HeadTooLarge => "head_too_large",
            Code::TooSlow => "too_slow",
            Code::UnsupportedMediaType => "unsupported_media_type",
            Code::UpgradeRequired => "upgrade_required",
            Code::InvalidTopic => "invalid_topic",
            Code::InvalidPattern => "invalid_pattern",
            Code::InvalidEvent => "invalid_event",
            Code::TooMany => "too_many",
            Code::Unavailable => "unavailable",
            Code::StorageFull => "storage_full",
            Code::OutcomeUnknown => "outcome_unknown",
            Code::Internal => "internal",
        }
    }
}

/// A refusal: what, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The stable name.
    pub code: Code,
    /// What exactly is wrong, for a person. Never holds a token, a key or data.
    pub detail: String,
    /// After how many seconds it is worth another try, where that is known better than for any other.
    pub retry_after: Option<u32>,
    /// Whether it is the credential that was shown: one is there, and not valid.
    pub is_of_credential: bool,
    /// The setting that would allow it, where there is one.
    pub setting: Option<&'static str>,
    /// What is the newest instead, where it had to be another event.
    pub not_latest: Option<Box<NotLatest>>,
}

/// A topic whose newest event is not what it had to be.
#[derive(Debug, Clone)]
pub struct NotLatest {
    /// The topic.
    pub topic: Topic,
    /// Its newest event, for who may read it.
    pub event: Option<Arc<Event>>,
}

impl PartialEq for NotLatest {
    fn eq(&self, other: &Self) -> bool {
        let place = |it: &Self| it.event.as_ref().map(|event| event.cursor);
        self.topic == other.topic && place(self) == place(other)
    }
}

impl Eq for NotLatest {}

impl Problem {
    /// A refusal with its reason.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            code,
            detail,
            retry_after: None,
            is_of_credential: false,
            setting: None,
            not_latest: None,
        }
    }

    /// The same, worth another try after so many seconds.
    pub fn passing_in(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The same, which this setting would allow.
    pub fn allowed_by(self, setting: &'static str) -> Self {
        Self { setting: Some(setting), ..self }
    }

    /// The newest event of a topic, where it had to be another one and the caller may read it.
    pub fn newest(&self) -> Option<&Event> {
        self.not_latest.as_ref()?.event.as_deref()
    }

    /// The refusal of a credential that was shown.
    pub fn bad_credential(detail: impl Into<String>) -> Self {
        Self { is_of_credential: true, ..Self::new(Code::Unauthorized, detail) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl std::error::Error for Problem {}

impl From<TopicError> for Problem {
    fn from(error: TopicError) -> Self {
        Self::new(Code::InvalidTopic, format!("not a topic: {error}"))
    }
}

impl From<PatternError> for Problem {
    fn from(error: PatternError) -> Self {
        Self::new(Code::InvalidPattern, format!("not a pattern: {error}"))
    }
}

impl From<CursorError> for Problem {
    fn from(error: CursorError) -> Self {
        Self::new(Code::InvalidCursor, format!("not a cursor: {error}"))
    }
}

impl From<EventTypeError> for Problem {
    fn from(error: EventTypeError) -> Self {
        Self::new(Code::InvalidEvent, format!("not an event type: {error}"))
    }
}

impl From<DataError> for Problem {
    fn from(error: DataError) -> Self {
        let code = match error {
            DataError::NotJson(_) => Code::InvalidJson,
            DataError::TooDeep(_) | DataError::NotBase64 => Code::InvalidEvent,
        };
        Self::new(code, format!("bad data: {error}"))
    }
}
