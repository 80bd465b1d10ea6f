//! What a look at a running broker found: a line a step.

use super::super::{Failure, print};

/// What is known of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be.
    Good(String),
    /// It is not; with what to set.
    Wrong(String),
    /// Nobody knows; with what it would take.
    Unseen(String),
}

/// The steps so far.
#[derive(Debug, Default)]
pub struct Report {
    steps: usize,
    wrong: Vec<&'static str>,
}

impl Report {
    /// Prints what was found at a step.
    pub fn say(&mut self, step: &'static str, verdict: &Verdict) -> Result<(), Failure> {
        self.steps += 1;
        let (word, text) = match verdict {
            Verdict::Good(text) => ("ok", text),
            Verdict::Wrong(text) => {
                self.wrong.push(step);
                ("wrong", text)
            }
            Verdict::Unseen(text) => ("unseen", text),
        };
        print(format_args!("{word:<7} {step:<12}  {text}"))
    }

    /// What it comes to: a failure that names the steps where something is wrong.
    pub fn end(self) -> Result<(), Failure> {
        match self.wrong.len() {
            0 => Ok(()),
            wrong => {
                let names = self.wrong.join(", ");
                Err(Failure::Failed(format!("{wrong} of {} are wrong: {names}", self.steps)))
            }
        }
    }
}
