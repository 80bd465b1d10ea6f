//! How often a session's connection is shown to be alive, and for how long its client may be silent.

use std::time::Duration;

use crate::broker::Transport;

/// Heartbeats of the broker's own pace in a row without a word from a WebSocket client before it counts as gone.
const MISSED: u32 = 2;

/// The broker's own time between heartbeats.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeats {
    /// On a WebSocket, whole seconds.
    pub websocket: Duration,
    /// On an event stream, likewise.
    pub stream: Duration,
}

/// The heartbeats of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// Seconds between them.
    pub seconds: u32,
    /// Of these in a row without a word from a WebSocket client, it counts as gone.
    pub missed: u32,
    /// Whether they are messages, which the client asked for.
    pub is_shown: bool,
}

impl Rhythm {
    /// Those of a client that asked for this time between them, if it did. They come no less often than
    /// the broker's own, by which proxies and the broker itself find out who is gone.
    pub fn new(own: Heartbeats, transport: Transport, asked: Option<u32>) -> Self {
        let own = match transport {
            Transport::WebSocket => own.websocket,
            Transport::Sse => own.stream,
        };
        let own = u32::try_from(own.as_secs()).unwrap_or(u32::MAX).max(1);
        let seconds = asked.unwrap_or(own).clamp(1, own);
        Self { seconds, missed: (MISSED * own).div_ceil(seconds), is_shown: asked.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_ask_for_more_heartbeats_and_not_for_fewer() {
        let own =
            Heartbeats { websocket: Duration::from_secs(25), stream: Duration::from_secs(15) };
        for (transport, asked, (seconds, missed, is_shown)) in [
            (Transport::WebSocket, None, (25, 2, false)),
            (Transport::Sse, None, (15, 2, false)),
            (Transport::WebSocket, Some(10), (10, 5, true)),
            (Transport::WebSocket, Some(1), (1, 50, true)),
            (Transport::WebSocket, Some(300), (25, 2, true)),
            (Transport::Sse, Some(20), (15, 2, true)),
        ] {
            let rhythm = Rhythm::new(own, transport, asked);
            assert_eq!(rhythm, Rhythm { seconds, missed, is_shown }, "{asked:?}");
        }
    }
}
