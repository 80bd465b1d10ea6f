//! The broker behind the proxies: with credentials, a listed origin, and a way back after its end.

use tempfile::TempDir;

use crate::support::process::{Process, free_port};
use crate::support::{API_KEY, JWT_SECRET};

/// The origin whose pages may come, though it is another one.
pub const LISTED: &str = "https://page.example";

/// A running broker on a port and with data that it keeps.
pub struct Broker {
    pub port: u16,
    directory: TempDir,
    process: Option<Process>,
}

impl Broker {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut broker = Self { port: free_port(), directory, process: None };
        broker.restart();
        broker
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        let secret = str::from_utf8(JWT_SECRET).expect("text");
        let settings = [
            format!("auth.api_keys={API_KEY}"),
            format!("auth.jwt_secret={secret}"),
            format!("server.allowed_origins={LISTED}"),
            "server.trusted_proxies=127.0.0.1".to_owned(),
            r#"topics=[{match="pool.>", history="memory"}, {match="open.>", subscribe="anyone"}]"#
                .to_owned(),
        ];
        let arguments: Vec<_> =
            settings.iter().flat_map(|setting| ["--set", setting.as_str()]).collect();
        self.process = None;
        self.process = Some(Process::durable(self.directory.path(), self.port, &arguments));
    }
}
