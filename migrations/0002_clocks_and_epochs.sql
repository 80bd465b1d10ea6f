-- What a log must know of its clock, of the rules it was kept by, and of where it may have been another
-- log before: a copy of it that was put in its place.

-- Where the clock went back: dates rise from one such number to the next.
CREATE TABLE clock_steps (
    after    INTEGER NOT NULL, -- the newest number that was given before
    was      INTEGER NOT NULL, -- the date of the newest event then
    became   INTEGER NOT NULL, -- the date of the next one
    checksum INTEGER NOT NULL
) STRICT;
