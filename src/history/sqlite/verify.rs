//! What is checked before a database is used: what decides which events exist.
//!
//! A damaged index over topics or keys could hide a row that no later check would miss; events check
//! each other when they are read. SQLite's own check looks every row up in every index, which takes
//! seconds for a million topics; here each index is gone through once, in order, and must hold the
//! same entries as the table.

use rusqlite::{Connection, Row};

use super::rows::{RowError, RowResult, TopicRow};

/// Checks everything but events.
pub(super) fn verify(db: &Connection) -> RowResult<()> {
    for table in ["log", "epochs", "receipts", "stays", "versions", "endings"] {
        check_with(db, &format!("integrity_check({table})"))?;
    }
    check_with(db, "quick_check(topics)")?;
    verify_topics(db)
}

fn check_with(db: &Connection, check: &str) -> RowResult<()> {
    let verdict: String = db.query_row(&format!("PRAGMA {check}"), (), |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(corrupt(verdict)) }
}

/// As SQLite says it of a damaged file.
pub(super) fn corrupt(message: impl Into<String>) -> RowError {
    let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(error, Some(message.into())).into()
}

fn verify_topics(db: &Connection) -> RowResult<()> {
    let (mut names, mut lasts, mut removed) = (0, 0, 0);
    let sql = format!("SELECT {} FROM topics NOT INDEXED", TopicRow::COLUMNS);
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let topic = TopicRow::read(row)?;
        add(&mut names, topic.name.as_str().as_bytes(), topic.id);
        add(&mut lasts, &(topic.last as i64).to_le_bytes(), topic.id);
        add(&mut removed, &(topic.last_removed as i64).to_le_bytes(), topic.id);
    }
    let name = |row: &Row<'_>| Ok(row.get_ref(0)?.as_bytes().unwrap_or_default().to_vec());
    let number = |row: &Row<'_>| row.get::<_, i64>(0);
    let is_whole = entries(db, "name", "sqlite_autoindex_topics_1", name, Vec::clone)?
        == Some(names)
        && entries(db, "last", "topics_by_last", number, bytes)? == Some(lasts)
        && entries(db, "last_removed", "topics_by_last_removed", number, bytes)? == Some(removed);
    if is_whole { Ok(()) } else { Err(corrupt("an index of topics is damaged")) }
}

fn bytes(number: &i64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

/// Goes through an index; what its entries come to, if they are in order.
fn entries<K: Ord>(
    db: &Connection,
    column: &str,
    index: &str,
    key: impl Fn(&Row<'_>) -> rusqlite::Result<K>,
    bytes: impl Fn(&K) -> Vec<u8>,
) -> RowResult<Option<u64>> {
    let sql = format!("SELECT {column}, id FROM topics INDEXED BY {index} ORDER BY {column}");
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query(())?;
    let (mut sum, mut before) = (0, None);
    while let Some(row) = rows.next()? {
        let (key, id) = (key(row)?, row.get(1)?);
        add(&mut sum, &bytes(&key), id);
        let entry = Some((key, id));
        if before >= entry {
            return Ok(None);
        }
        before = entry;
    }
    Ok(Some(sum))
}

/// Adds an entry to a sum that is the same in whatever order entries are added.
fn add(sum: &mut u64, key: &[u8], id: i64) {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&id.to_le_bytes());
    let low = u64::from(hasher.clone().finalize());
    hasher.update(&low.to_le_bytes());
    *sum = sum.wrapping_add(u64::from(hasher.finalize()) << 32 | low);
}
