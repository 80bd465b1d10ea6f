-- What an event carries beside its type and data; most events nothing. The checksum of the event covers it.
ALTER TABLE events ADD COLUMN envelope BLOB;

-- The newest event of each topic that carries a version; it may have been removed. What it says stands in the event.
CREATE TABLE versions (
    topic    INTEGER PRIMARY KEY,
    sequence INTEGER NOT NULL
) STRICT;
