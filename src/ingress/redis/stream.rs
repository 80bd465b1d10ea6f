//! Streams of an application: read at least once, in their order.
//!
//! A consumer group keeps what was read and not acknowledged. All nodes read as one consumer, each in its
//! turn, and begin with what the last one left; a batch that is published again after a failure has the
//! same idempotency key, so that the log has it once.

use std::time::Duration;

use redis::{AsyncConnectionConfig, RedisResult, cmd};

use super::{ANSWER, KnownBy, Source, TOGETHER};
use crate::history::redis::{Away, Connection};
use crate::history::{Asked, IdempotencyKey, digest};
use crate::metrics::Why;
use crate::model::NewEvent;

/// How long a read waits for entries.
const BLOCK: Duration = Duration::from_secs(1);

/// The one consumer that all nodes are.
const CONSUMER: &str = "fanfare";

/// An entry: its id, and its fields and values in turn; none where it was deleted.
type Entry = (String, Option<Vec<Vec<u8>>>);

/// What is read of one stream.
type Reply = Option<Vec<(String, Vec<Entry>)>>;

impl Source {
    /// Follows a stream while it is this node's turn.
    pub(super) async fn follow(
        &mut self,
        name: &str,
        group: &str,
        field: Option<&str>,
    ) -> Result<(), Away> {
        let mut connection = self.connect(AsyncConnectionConfig::new(), BLOCK + ANSWER).await?;
        self.wait_for_turn(&mut connection).await?;
        make_group(&mut connection, name, group).await?;
        // Nothing is acknowledged by that: what can't be must not be published time and again.
        () = cmd("XACK").arg(name).arg(group).arg("0-0").query_async(&mut connection).await?;
        // First what was read before and may not be published yet, then what is new.
        let mut from = "0";
        while self.turn.take(&mut connection).await? {
            let entries = read(&mut connection, name, group, from).await?;
            if entries.is_empty() {
                from = ">";
                continue;
            }
            if !self.pass_entries_on(&mut connection, name, group, field, &entries).await? {
                break;
            }
            let mut acknowledge = cmd("XACK");
            acknowledge.arg(name).arg(group);
            entries.iter().for_each(|(id, _)| _ = acknowledge.arg(id));
            () = acknowledge.query_async(&mut connection).await?;
        }
        Ok(())
    }

    /// Publishes entries: each that gives a key by itself, those between together.
    async fn pass_entries_on(
        &mut self,
        connection: &mut Connection,
        name: &str,
        group: &str,
        field: Option<&str>,
        entries: &[Entry],
    ) -> Result<bool, Away> {
        let key_name = self.key_name().map(str::to_owned);
        let own_key = |entry: &Entry| own_key(entry, key_name.as_deref());
        for run in entries.chunk_by(|a, b| own_key(a).is_none() && own_key(b).is_none()) {
            let known = match run.first().and_then(own_key) {
                None => KnownBy::Position(key(name, group, run)),
                Some(text) => match self.own_key(name, &text) {
                    Some(key) => KnownBy::Key(key),
                    None => continue,
                },
            };
            let events = run.iter().filter_map(|entry| self.event_of(name, entry, field)).collect();
            if !self.publish(connection, events, known).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The event that an entry is; none where it can't be one, which is said, or was deleted.
    fn event_of(&self, name: &str, (id, fields): &Entry, field: Option<&str>) -> Option<NewEvent> {
        let Some(data) = data(fields.as_deref()?, field, self.key_name()) else {
            let example = || {
                let field = field.unwrap_or_default();
                format!("{name} {id}: the entry has no field {field} (ingress.redis.field)")
            };
            self.broker.passed_by().note(Why::NoField, 1, example);
            return None;
        };
        self.event(name, &format_args!("{name} {id}"), &data)
    }
}

/// Makes the group where it is missing, and with it the stream.
async fn make_group(connection: &mut Connection, name: &str, group: &str) -> RedisResult<()> {
    let mut make = cmd("XGROUP");
    make.arg("CREATE").arg(name).arg(group).arg("0").arg("MKSTREAM");
    match make.query_async(connection).await {
        // It is there, or nobody can tell: a server without memory says nothing else. Then reading will.
        Err(error) if ["BUSYGROUP", "OOM"].contains(&error.code().unwrap_or_default()) => Ok(()),
        made => made,
    }
}

async fn read(
    connection: &mut Connection,
    name: &str,
    group: &str,
    from: &str,
) -> RedisResult<Vec<Entry>> {
    let mut read = cmd("XREADGROUP");
    read.arg("GROUP").arg(group).arg(CONSUMER).arg("COUNT").arg(TOGETHER);
    read.arg("BLOCK").arg(BLOCK.as_millis() as u64).arg("STREAMS").arg(name).arg(from);
    let reply: Reply = read.query_async(connection).await?;
    Ok(reply.unwrap_or_default().into_iter().flat_map(|(_, entries)| entries).collect())
}

/// The idempotency key that an entry gives under a name; an empty one is none.
fn own_key((_, fields): &Entry, name: Option<&str>) -> Option<String> {
    let (pairs, _) = fields.as_deref()?.as_chunks::<2>();
    let [_, key] =
        pairs.iter().find(|[field, _]| Some(field.as_slice()) == name.map(str::as_bytes))?;
    (!key.is_empty()).then(|| String::from_utf8_lossy(key).into_owned())
}

/// The data of an entry: one field, or all but that of its key as a JSON object of texts.
fn data(fields: &[Vec<u8>], field: Option<&str>, key: Option<&str>) -> Option<Vec<u8>> {
    let (pairs, _) = fields.as_chunks::<2>();
    if let Some(field) = field {
        let value = pairs.iter().find(|[name, _]| name == field.as_bytes());
        // Without that field it can't be an event, and empty data would be one.
        return value.map(|[_, value]| value.clone());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let is_data = |name: &[u8]| Some(name) != key.map(str::as_bytes);
    let pairs = pairs.iter().filter(|[name, _]| is_data(name));
    let object = pairs.map(|[name, value]| (text(name), text(value).into()));
    serde_json::to_vec(&serde_json::Map::from_iter(object)).ok()
}

/// What a batch is known by: where it stands in the stream, and what it holds.
fn key(name: &str, group: &str, entries: &[Entry]) -> IdempotencyKey {
    let id = |entry: Option<&Entry>| entry.map_or(String::new(), |(id, _)| id.clone());
    let (first, last) = (id(entries.first()), id(entries.last()));
    let scope = ["ingress.redis", name, group, &first, &last].map(str::as_bytes);
    let fields = entries.iter().flat_map(|(_, fields)| fields.iter().flatten());
    let held: Vec<&[u8]> = fields.map(Vec::as_slice).collect();
    // It never comes another way, nor do its events follow from it alone: settings may change between two reads.
    let asked = Asked::as_it_came(digest(&held));
    IdempotencyKey { scope: digest(&scope), asked, is_in_series: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(texts: &[&str]) -> Vec<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    #[test]
    fn the_data_of_an_entry_is_one_field_or_all_of_them() {
        let entry = fields(&["a", "1", "json", "{}"]);
        assert_eq!(data(&entry, Some("json"), None).unwrap(), b"{}");
        assert_eq!(data(&entry, Some("b"), None), None);
        assert_eq!(data(&entry, None, None).unwrap(), br#"{"a":"1","json":"{}"}"#);
        assert_eq!(data(&entry, None, Some("a")).unwrap(), br#"{"json":"{}"}"#);
    }

    #[test]
    fn a_batch_is_known_by_its_place_and_told_apart_by_what_it_holds() {
        let entry = |id: &str, text| (id.to_owned(), Some(fields(&["a", text])));
        let batch = [entry("1-0", "x"), entry("2-0", "y")];
        assert_eq!(key("s", "g", &batch), key("s", "g", &batch));
        let other = [entry("1-0", "x"), entry("2-0", "z")];
        assert_eq!(key("s", "g", &batch).scope, key("s", "g", &other).scope);
        assert_ne!(key("s", "g", &batch).asked, key("s", "g", &other).asked);
        assert_ne!(key("s", "g", &batch).scope, key("s", "g", &batch[..1]).scope);
    }
}
