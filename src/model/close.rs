//! Why the broker hangs up: one table, which every protocol translates.

/// A reason to end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// A frame that RFC 6455 does not allow.
    ProtocolError,
    /// Text that is not UTF-8 (RFC 6455, section 8.1).
    InvalidText,
    /// Ended by an administrator, or a rule of the operator.
    Policy,
    /// A message over its limit.
    TooLarge,
    /// A fault of the broker's own.
    Internal,
    /// The broker stops or restarts.
    Restart,
    /// What the session needs is away for now.
    Unavailable,
    /// Message after message that is not of the protocol.
    BadMessage,
    /// No credential in time, or one that expired.
    Unauthorized,
    /// A right that the session lives by was taken away.
    Forbidden,
    /// Nothing was heard from the client for two heartbeats.
    HeartbeatMissed,
    /// More waits for the client than its outbox may hold.
    SlowConsumer,
    /// More connections, subscriptions or requests than the limit.
    TooMany,
}

/// How a session ended, as it is counted and logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The broker ended it, and said why.
    Closed(Close),
    /// Its client said good-bye.
    Left,
    /// Its connection is gone without a word, or its client has let go of the stream.
    Gone,
    /// Its client took nothing of what was sent for `limits.stall_timeout`, and was cut.
    Stalled,
}

impl Ended {
    /// Those of which no client can be told.
    const SILENT: [Ended; 3] = [Ended::Left, Ended::Gone, Ended::Stalled];

    /// Every way to end, in the order of its numbers.
    pub fn all() -> impl Iterator<Item = Ended> {
        Close::ALL.map(Ended::Closed).into_iter().chain(Self::SILENT)
    }

    /// Whether somebody meant it to be over: the client said good-bye, or the broker ended it for what the client is or
    /// does. Else the client is about to come back, as far as anybody knows.
    pub fn is_meant(self) -> bool {
        match self {
            Ended::Left => true,
            Ended::Closed(close) => matches!(
                close,
                Close::Policy
                    | Close::BadMessage
                    | Close::Unauthorized
                    | Close::Forbidden
                    | Close::TooMany
            ),
            Ended::Gone | Ended::Stalled => false,
        }
    }

    /// Which of [`Ended::all`] it is.
    pub fn number(self) -> usize {
        match self {
            Ended::Closed(close) => close as usize,
            Ended::Left => Close::ALL.len(),
            Ended::Gone => Close::ALL.len() + 1,
            Ended::Stalled => Close::ALL.len() + 2,
        }
    }

    /// The stable name, as in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Ended::Closed(close) => close.name(),
            Ended::Left => "left",
            Ended::Gone => "gone",
            Ended::Stalled => "stalled",
        }
    }

    /// One sentence for an operator, with the limit that it is about.
    pub fn message(self) -> &'static str {
        match self {
            Ended::Closed(Close::SlowConsumer) => {
                "more waited for the client than limits.outbox_bytes, or limits.conflated_bytes"
            }
            Ended::Closed(Close::TooLarge) => {
                "a message was over limits.message_bytes or limits.message_fragments"
            }
            Ended::Closed(Close::BadMessage) => "limits.bad_messages bad messages came in a row",
            Ended::Closed(Close::TooMany) => {
                "over limits.messages_per_second or limits.bytes_per_second, or another of its kind"
            }
            Ended::Closed(Close::HeartbeatMissed) => {
                "nothing was heard of the client for two of server.heartbeat"
            }
            Ended::Closed(close) => close.message(),
            Ended::Left => "the client said good-bye",
            Ended::Gone => "the connection was lost, or its client let go of it",
            Ended::Stalled => "the client took nothing of what was sent for limits.stall_timeout",
        }
    }
}

/// What is said of one reason, on every protocol.
struct Row {
    code: u16,
    name: &'static str,
    message: &'static str,
    retry_after_ms: Option<u32>,
}

impl Close {
    /// Every reason, in the order of the table in the docs.
    pub const ALL: [Close; 13] = [
        Close::ProtocolError,
        Close::InvalidText,
        Close::Policy,
        Close::TooLarge,
        Close::Internal,
        Close::Restart,
        Close::Unavailable,
        Close::BadMessage,
        Close::Unauthorized,
        Close::Forbidden,
        Close::HeartbeatMissed,
        Close::SlowConsumer,
        Close::TooMany,
    ];

    fn row(self) -> Row {
        let row = |code, name, message, retry_after_ms| Row { code, name, message, retry_after_ms };
        match self {
            Close::ProtocolError => {
                row(1002, "protocol_error", "a frame broke RFC 6455 or RFC 7692", None)
            }
            Close::InvalidText => row(1007, "invalid_text", "a text was not UTF-8", None),
            Close::Policy => row(1008, "policy", "the session was ended by the operator", None),
            Close::TooLarge => row(1009, "too_large", "a message was over the limit", None),
            Close::Internal => row(1011, "internal", "the broker failed", Some(1_000)),
            Close::Restart => row(1012, "restart", "the broker is restarting", Some(1_000)),
            Close::Unavailable => {
                row(1013, "unavailable", "the broker can't do this for now", Some(2_000))
            }
            Close::BadMessage => row(4400, "bad_message", "too many bad messages", None),
            Close::Unauthorized => {
                row(4401, "unauthorized", "no valid credential, or it expired or was revoked", None)
            }
            Close::Forbidden => row(4403, "forbidden", "the right was taken away", None),
            Close::HeartbeatMissed => {
                row(4408, "heartbeat_missed", "nothing was heard for too long", Some(0))
            }
            Close::SlowConsumer => {
                row(4409, "slow_consumer", "the client did not keep up", Some(1_000))
            }
            Close::TooMany => row(4429, "too_many", "over a limit of the broker", Some(5_000)),
        }
    }

    /// The WebSocket close code (RFC 6455, section 7.4).
    pub fn code(self) -> u16 {
        self.row().code
    }

    /// The stable name, as in the `code` of `bye`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// One sentence for a person.
    pub fn message(self) -> &'static str {
        self.row().message
    }

    /// How long a client should wait before it comes back, in milliseconds; `None` where coming
    /// back unchanged would end the same way. The sender adds jitter.
    pub fn retry_after_ms(self) -> Option<u32> {
        self.row().retry_after_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_reason_has_a_code_and_a_name_of_its_own() {
        let codes: HashSet<_> = Close::ALL.iter().map(|close| close.code()).collect();
        let names: HashSet<_> = Close::ALL.iter().map(|close| close.name()).collect();
        assert_eq!((codes.len(), names.len()), (Close::ALL.len(), Close::ALL.len()));
    }

    #[test]
    fn each_way_to_end_has_a_number_and_a_name_of_its_own() {
        assert!(Ended::all().enumerate().all(|(number, ended)| ended.number() == number));
        let names: HashSet<_> = Ended::all().map(Ended::name).collect();
        assert_eq!(names.len(), Ended::all().count());
    }

    #[test]
    fn what_is_meant_to_be_over_is_told_from_what_comes_back() {
        let meant = Ended::all().filter(|ended| ended.is_meant());
        let meant: Vec<_> = meant
            .map(|ended| match ended {
                Ended::Closed(close) => close.code(),
                _ => 0,
            })
            .collect();
        assert_eq!(meant, [1008, 4400, 4401, 4403, 4429, 0]);
    }

    #[test]
    fn a_message_fits_a_close_frame() {
        assert!(Close::ALL.iter().all(|close| close.message().len() <= 123));
    }
}
