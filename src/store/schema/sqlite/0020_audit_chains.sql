-- Each process writes an audit chain of its own, NODE.EPOCH.LANE, and a record of an order has the order's version, by
-- which records of one order in several chains are joined. Records from before have none: they stay one chain, the first,
-- under the name that their hashes cover.
ALTER TABLE audit ADD COLUMN version INTEGER NOT NULL DEFAULT 0 CHECK (version >= 0);

-- How many audit chains the process has opened: one for each lane that recorded something.
ALTER TABLE nodes ADD COLUMN lanes INTEGER NOT NULL DEFAULT 0 CHECK (lanes >= 0);
