//! What it means that something was not stored: to the one who asked for it, and to those who come next.

use rusqlite::ErrorCode;

use super::super::AppendError;
use super::rows::RowError;
use crate::model::{Code, Problem};

/// Why nothing, or perhaps something, was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Certainly nothing: there is no space.
    Full,
    /// Certainly nothing: another process is in the way.
    Busy(String),
    /// Certainly nothing.
    NotStored(String),
    /// All of it or nothing.
    Unknown(String),
}

/// Why nothing can be stored at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There was no space for the last group; the next one may be smaller.
    Full,
    /// Another process was in the way of the last group; it may be gone.
    Busy(String),
    /// The disk can't be trusted before it has been looked at again.
    Broken(String),
}

impl Failure {
    /// What it is that something failed before anything was committed.
    pub(super) fn before_commit(error: RowError) -> Self {
        match error.code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseBusy) => {
                Self::Busy("another process has locked history.db".to_owned())
            }
            _ => Self::NotStored(error.to_string()),
        }
    }

    /// What it is that a commit failed.
    pub(super) fn of_commit(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Unknown(error.to_string()),
        }
    }

    /// Whether something may be stored after all.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// What it means for those who come next.
    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Self::Full => Trouble::Full,
            Self::Busy(reason) => Trouble::Busy(reason.clone()),
            Self::NotStored(reason) | Self::Unknown(reason) => Trouble::Broken(reason.clone()),
        }
    }
}

impl From<&Failure> for AppendError {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Full => Self::StorageFull,
            Failure::Busy(reason) | Failure::NotStored(reason) => Self::Unavailable(reason.clone()),
            Failure::Unknown(reason) => Self::OutcomeUnknown(reason.clone()),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Full => Self::new(Code::StorageFull, "there is no space left"),
            Failure::Busy(reason) | Failure::NotStored(reason) => {
                Self::new(Code::Unavailable, reason)
            }
            Failure::Unknown(reason) => Self::new(Code::OutcomeUnknown, reason),
        }
    }
}

impl Trouble {
    /// As it is told to an operator.
    pub(super) fn said(&self) -> String {
        match self {
            Self::Full => {
                "there is no space left for the history, or less than history.reserve_bytes"
                    .to_owned()
            }
            Self::Busy(reason) => reason.clone(),
            Self::Broken(reason) => format!("the disk has failed: {reason}"),
        }
    }
}
