-- What was given up is counted by whoever watches, listed, and sent again (N2), so it is found
-- without reading what was delivered.
CREATE INDEX events_dead ON events (merchant_id, sequence) WHERE state = 'DEAD';
