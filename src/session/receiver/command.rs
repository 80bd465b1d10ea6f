//! What an operator has a session do, as if its client had asked.

use super::super::errand::Errand;
use super::Receiver;
use crate::broker::{Commanded, Subscriber};
use crate::protocol::{Command, Reply};

impl Receiver {
    /// Does what it is commanded, as far as that needs no waiting. As many things as `limits.replays` may be waited for.
    pub(super) fn obey(&mut self, command: &str) -> Commanded<Errand> {
        let limits = self.house.limits.of_messages();
        let Ok((_, command)) = Command::parse(command.as_bytes(), &limits) else {
            return Commanded::Refused;
        };
        self.lagging.retain(|task| !task.0.is_finished());
        let has_room = self.lagging.len() < self.house.limits.replays;
        match command {
            Command::Subscribe(subscribe) if has_room && self.check(&subscribe).is_ok() => {
                Commanded::Run(Errand::Join(Box::new(subscribe)))
            }
            Command::Refresh { token } if has_room => Commanded::Run(Errand::Become(token)),
            Command::Subscribe(_) | Command::Refresh { .. } => Commanded::Refused,
            Command::Unsubscribe { patterns } => {
                self.unsubscribe(&patterns);
                self.reply(&Reply::Unsubscribed { patterns: &patterns });
                Commanded::Unsubscribed(patterns)
            }
            Command::Disconnect { close } => Commanded::End(close),
        }
    }
}
