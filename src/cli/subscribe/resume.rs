//! Where a client of one subscription stands, so that it can go on after a disconnect.
//!
//! The rules of a client that subscribes at connect alone: the last `id` of an event counts, but for
//! snapshots and conflated events, which come out of order; and so does the `cursor` of `live` and
//! `cursor`. Cursors are opaque: the last one wins, they are never compared.

use super::message::Message;

/// The cursor to go on from.
#[derive(Debug, Default)]
pub struct Resume {
    cursor: Option<String>,
}

impl Resume {
    /// Begins at a cursor that was kept from before, if there is one.
    pub fn new(since: Option<String>) -> Self {
        Self { cursor: since }
    }

    /// The cursor to send as `since` with the next connect.
    pub fn since(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Takes note of a message that was dealt with.
    pub fn saw(&mut self, message: &Message<'_>) {
        let cursor = match message.op() {
            "event" if message.flag("snapshot") || message.flag("conflated") => None,
            "event" => message.text("id"),
            "live" | "cursor" => message.text("cursor"),
            _ => None,
        };
        if cursor.is_some() {
            self.cursor = cursor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a client stands that began at `before` and saw these messages.
    fn after(before: Option<&str>, messages: &[&str]) -> Option<String> {
        let mut resume = Resume::new(before.map(str::to_owned));
        for text in messages {
            resume.saw(&Message::parse(text).unwrap());
        }
        resume.since().map(str::to_owned)
    }

    #[test]
    fn events_live_and_cursor_move_it_and_nothing_else_does() {
        for (text, cursor) in [
            (r#"{"op":"event","id":"c","topic":"a"}"#, "c"),
            (r#"{"op":"event","id":"c","topic":"a","replay":0}"#, "c"),
            (r#"{"op":"live","ref":0,"cursor":"c"}"#, "c"),
            (r#"{"op":"cursor","cursor":"c"}"#, "c"),
            (r#"{"op":"event","id":"c","topic":"a","snapshot":true}"#, "b"),
            (r#"{"op":"event","id":"c","topic":"a","conflated":true}"#, "b"),
            (r#"{"op":"event","topic":"ephemeral"}"#, "b"),
            (r#"{"op":"ack","ref":1,"id":"c"}"#, "b"),
            (r#"{"op":"gap","ref":0,"since":"c"}"#, "b"),
            (r#"{"op":"welcome","session":"c","heartbeat":25}"#, "b"),
            (r#"{"op":"bye","code":"restart"}"#, "b"),
            (r#"{"op":"later","cursor":"c","id":"c"}"#, "b"),
        ] {
            assert_eq!(after(Some("b"), &[text]).as_deref(), Some(cursor), "{text}");
        }
    }

    #[test]
    fn a_disconnect_within_a_replay_resumes_after_what_was_replayed() {
        let messages = [
            r#"{"op":"ack","ref":0}"#,
            r#"{"op":"event","id":"x-1-4","replay":0}"#,
            r#"{"op":"event","id":"x-1-6","replay":0}"#,
        ];
        assert_eq!(after(Some("x-1-3"), &messages).as_deref(), Some("x-1-6"));
    }

    #[test]
    fn a_disconnect_within_a_snapshot_begins_again() {
        let snapshot = r#"{"op":"event","id":"x-1-9","snapshot":true}"#;
        assert_eq!(after(None, &[snapshot]), None);
        assert_eq!(
            after(None, &[snapshot, r#"{"op":"live","cursor":"x-1-12"}"#]).as_deref(),
            Some("x-1-12")
        );
    }

    #[test]
    fn after_a_gap_the_cursors_of_the_new_log_are_taken_as_they_come() {
        let messages = [
            r#"{"op":"gap","ref":0,"since":"old-7-900"}"#,
            r#"{"op":"event","id":"new-1-1","replay":0}"#,
        ];
        assert_eq!(after(Some("old-7-900"), &messages).as_deref(), Some("new-1-1"));
    }
}
