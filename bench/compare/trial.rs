//! What came of one system that was given one work once.

use std::time::Duration;

use fanfare::cli::bench::{HerdReport, Report};

/// One trial.
#[derive(Debug, Clone)]
pub struct Trial {
    /// From its start to its first answer.
    pub start: Duration,
    /// The bytes of its program.
    pub binary: Option<u64>,
    /// What was measured.
    pub outcome: Outcome,
}

/// What was measured.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Of a load.
    Load(Box<Report>),
    /// Of a herd.
    Herd(HerdReport),
}

impl Trial {
    /// What became of the load, if it was one.
    pub fn load(&self) -> Option<&Report> {
        match &self.outcome {
            Outcome::Load(report) => Some(report),
            Outcome::Herd(_) => None,
        }
    }

    /// What became of the herd, if it was one.
    pub fn herd(&self) -> Option<&HerdReport> {
        match &self.outcome {
            Outcome::Load(_) => None,
            Outcome::Herd(report) => Some(report),
        }
    }

    /// What is wrong with it.
    pub fn faults(&self) -> Vec<String> {
        match &self.outcome {
            Outcome::Load(report) => report.faults(),
            Outcome::Herd(report) => report.fault().into_iter().collect(),
        }
    }
}
