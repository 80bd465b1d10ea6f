-- What a log knows of its past. From here on log.rules is a checksum of all of it, by which a lost row is
-- found; it was one of the topic rules before.

-- Each start begins an epoch, with a number that no other start has, for the log may be a copy that was put
-- in its own place. Null in epochs of earlier releases.
ALTER TABLE epochs ADD COLUMN ended_at INTEGER; -- the newest number of earlier epochs that is still known
ALTER TABLE epochs ADD COLUMN lost     INTEGER; -- up to here something acknowledged is proven to be missing

-- Topics that were kept in memory: what they had went with the process.
CREATE TABLE memories (
    place INTEGER PRIMARY KEY,
    rules TEXT    NOT NULL, -- where topics were kept, as the rules said then
    upto  INTEGER NOT NULL  -- the newest number that may have been given meanwhile
) STRICT;

-- Where the clock stepped, with what is wrong by that: dates rise from one such number to the next.
CREATE TABLE clock_steps (
    step      INTEGER PRIMARY KEY,
    after     INTEGER NOT NULL, -- the newest number that was given before
    was       INTEGER NOT NULL, -- the date of the newest event then
    became    INTEGER NOT NULL, -- what the time was when that was noticed
    ages_from INTEGER NOT NULL  -- what stands before it ages from then at the latest
) STRICT;
