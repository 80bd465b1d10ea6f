//! One bench before it runs: what is measured, with which work, and who is told how it goes on.

use std::sync::Arc;

use super::dialect::Dialect;
use super::load::Load;
use super::process::Server;
use super::target::Target;

/// What is measured, and how it is spoken to.
pub struct Bench {
    /// The work.
    pub load: Load,
    /// How the server is spoken to.
    pub dialect: Arc<dyn Dialect>,
    /// Where subscribers find it.
    pub target: Target,
    /// Where publishers do.
    pub publish_to: Target,
    /// Its processes.
    pub server: Server,
    /// Those of the store behind it, where that is none of them.
    pub store: Server,
    /// What the names of topics begin with.
    pub prefix: String,
    /// Told what goes on.
    pub watch: Box<dyn Fn(Watch)>,
}

/// What goes on.
#[derive(Debug, Clone, Copy)]
pub enum Watch {
    /// So many connections are live, of so many.
    Opening(usize, usize),
    /// So many events were acknowledged and so many arrived.
    Running(u64, u64),
}
