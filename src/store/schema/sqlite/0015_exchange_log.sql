-- What both sides of each exchange said is kept in blocks of many orders. What was kept order by order before is
-- not carried over: it was for diagnosis alone, and for some days.
DROP TABLE trails;

-- Each block's hash holds the hash of the block before it. The oldest are removed first; a chain begins with the
-- oldest that is left. What is long stands last, so that looking over a block reads none of it.
CREATE TABLE exchange_log (
    block    INTEGER PRIMARY KEY,
    first_at INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    prev     BLOB NOT NULL CHECK (length(prev) = 32),
    hash     BLOB NOT NULL CHECK (length(hash) = 32),
    -- Of this block, and of all that were ever written up to it.
    bytes    INTEGER NOT NULL,
    upto     INTEGER NOT NULL,
    -- Entries of any order that were dropped since the block before, by kind, as JSON.
    dropped  TEXT NOT NULL,
    -- A short keyed digest of the name of its order for each entry, in the order of the entries.
    orders   BLOB NOT NULL,
    sealed   BLOB NOT NULL
) STRICT;

CREATE INDEX exchange_log_by_time ON exchange_log (first_at);
