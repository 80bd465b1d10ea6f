-- The durable history: one log over all topics that are kept on disk.
--
-- Every row that decides what a client gets carries a checksum (CRC-32 over its values), so that
-- damage is found and never served. Times are milliseconds since 1970 and never go back.

CREATE TABLE log (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    name      TEXT    NOT NULL, -- the first part of every cursor
    rules     INTEGER NOT NULL, -- a checksum of where the topic rules keep events
    committed INTEGER NOT NULL, -- the newest number of a committed publish
    reserved  INTEGER NOT NULL, -- no number above this one was ever given
    floor     INTEGER NOT NULL, -- nothing up to here is known of topics without a row
    time      INTEGER NOT NULL, -- of the newest event
    bytes     INTEGER NOT NULL, -- what all kept events cost
    checksum  INTEGER NOT NULL
) STRICT;

-- Stretches of the log within which nothing acknowledged was lost.
CREATE TABLE epochs (
    epoch        INTEGER PRIMARY KEY,
    begins_after INTEGER NOT NULL, -- the newest number that belongs to an earlier epoch
    checksum     INTEGER NOT NULL
) STRICT;

CREATE TABLE topics (
    id           INTEGER PRIMARY KEY,
    name         TEXT    NOT NULL UNIQUE,
    last         INTEGER NOT NULL, -- the number of its newest event, kept or not
    last_removed INTEGER NOT NULL, -- the number of its newest removed event
    retained     INTEGER NOT NULL, -- how many events are kept
    bytes        INTEGER NOT NULL, -- what they cost
    checksum     INTEGER NOT NULL
) STRICT;
CREATE INDEX topics_by_last ON topics (last);
CREATE INDEX topics_by_last_removed ON topics (last_removed);
CREATE INDEX topics_without_events ON topics (last) WHERE retained = 0;

CREATE TABLE events (
    sequence INTEGER PRIMARY KEY,
    topic    INTEGER NOT NULL,
    previous INTEGER NOT NULL, -- the number of the topic's event before; 0 for its first
    time     INTEGER NOT NULL,
    type     TEXT,
    base64   INTEGER NOT NULL, -- whether data is a JSON string of base64
    data     TEXT    NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX events_by_topic ON events (topic, sequence);

-- The results of publishes with an Idempotency-Key, for the time of their window.
CREATE TABLE receipts (
    scope    BLOB    PRIMARY KEY, -- a digest of the credential and the key
    request  BLOB    NOT NULL,    -- a digest of what was asked
    time     INTEGER NOT NULL,
    events   TEXT    NOT NULL,    -- [[topic, number or null], ...]
    checksum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX receipts_by_time ON receipts (time);
