-- Newest events of their topics that stay beyond their age or the bytes of all topics. What is here decides what
-- is removed next and nothing that a client gets, so it has no checksum.
CREATE TABLE stays (
    sequence INTEGER PRIMARY KEY,
    bytes    INTEGER NOT NULL -- what the event costs
) STRICT;
