//! What outlives a restart beside the events: results of publishes, and values that end by themselves.

use std::time::Duration;

use super::super::memory::log::Log;
use super::super::{EventReceipt, IdempotencyKey};
use super::epochs::Epochs;
use super::rows::{EndingRow, Outcome, ReceiptRow, RowResult};
use super::store::Store;
use crate::clock::Clock;
use crate::model::{Cursor, Timestamp};

/// Recalls all of it at a start.
pub(super) fn recall(log: &mut Log, store: &Store, clock: Clock) -> RowResult<()> {
    let (head, epochs) = (log.head(), &store.past().epochs);
    for receipt in ReceiptRow::all(&store.db)? {
        remember(log, receipt, head, epochs, clock);
    }
    let now = Timestamp::from(clock.time()).millis();
    for row in EndingRow::all(&store.db)? {
        let left = row.left(now, log.steps());
        log.restore(row.topic, epochs.position(head, row.sequence), row.envelope, left);
    }
    Ok(())
}

/// Remembers the result of a publish from before a restart.
pub(super) fn remember(
    log: &mut Log,
    row: ReceiptRow,
    head: Cursor,
    epochs: &Epochs,
    clock: Clock,
) {
    let time = Timestamp::from_millis(row.time);
    let now = Timestamp::from(clock.time()).millis();
    let age = now.saturating_sub(row.aged(log.steps()));
    let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
    let events = row.events.into_iter().map(|Outcome { topic, number, superseded }| {
        let cursor = number.map(|number| epochs.position(head, number));
        EventReceipt { cursor, topic, time, superseded }
    });
    let asked = row.request.into();
    let key = IdempotencyKey { scope: row.scope, asked, is_in_series: false };
    log.remember(key, events.collect(), age);
}
