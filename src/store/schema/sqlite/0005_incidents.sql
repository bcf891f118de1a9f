-- Differences between an institution's statement of a day and what we know (M7). One difference is
-- one incident, however often the day is reconciled; one that is gone stays, resolved.
CREATE TABLE incidents (
    incident_id    INTEGER NOT NULL PRIMARY KEY,
    at             INTEGER NOT NULL,
    institution_id TEXT NOT NULL,
    day            TEXT NOT NULL,
    kind           TEXT NOT NULL,
    movement       TEXT NOT NULL CHECK (movement = 'PAYMENT' OR movement = 'REFUND'),
    object         TEXT NOT NULL,
    expected       TEXT NOT NULL,
    found          TEXT NOT NULL,
    owner          TEXT NOT NULL,
    state          TEXT NOT NULL CHECK (state = 'OPEN' OR state = 'RESOLVED'),
    seen_at        INTEGER NOT NULL,
    resolved_at    INTEGER,
    CHECK ((state = 'RESOLVED') = (resolved_at IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX incidents_by_difference
    ON incidents (institution_id, day, kind, movement, object);

-- What moved in a day, for whoever compares it with a statement.
CREATE INDEX attempts_paid ON attempts (institution_id, paid_at, attempt_id) WHERE state = 'PAID';
CREATE INDEX refunds_back ON refunds (refunded_at, refund_order_no) WHERE state = 'SUCCEEDED';
