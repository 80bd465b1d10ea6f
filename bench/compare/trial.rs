//! What came of one system that was given one work once.

use std::time::Duration;

use fanfare::cli::bench::Report;

/// One trial.
#[derive(Debug, Clone)]
pub struct Trial {
    /// From its start to its first answer.
    pub start: Duration,
    /// The bytes of its program.
    pub binary: Option<u64>,
    /// What was measured.
    pub report: Report,
}
