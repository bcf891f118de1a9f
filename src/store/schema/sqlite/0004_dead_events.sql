-- What was given up is counted by whoever watches, listed, and sent again (N2), so it is found
-- without reading what was delivered.
CREATE INDEX events_dead ON events (merchant_id, sequence) WHERE state = 'DEAD';

-- Of equally old ones the smaller number goes first, so that every look finds the same; and what is
-- due is found in the index alone.
DROP INDEX events_due;
CREATE INDEX events_due ON events (origin, state, due_at, event_id) WHERE due_at IS NOT NULL;
