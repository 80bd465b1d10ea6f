-- What an event carries beside its type and data; most events nothing. The checksum of the event covers it.
ALTER TABLE events ADD COLUMN envelope BLOB;

-- The newest event of each topic that carries a version; it may have been removed. What it says stands in the event.
CREATE TABLE versions (
    topic    INTEGER PRIMARY KEY,
    sequence INTEGER NOT NULL
) STRICT;

-- The newest value of each topic that ends by itself; something may have followed it. Such a value may be removed, and ends
-- all the same.
CREATE TABLE endings (
    topic    TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    time     INTEGER NOT NULL, -- when it was published, in milliseconds since 1970
    envelope BLOB NOT NULL,    -- for how long it holds, and its version
    checksum INTEGER NOT NULL
) STRICT;
