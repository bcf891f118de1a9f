-- Money on its way back. What surplus refunds there were keep their rows: none was sent.

-- R1, R8 once more: what is held for payers is at most what was paid, and nothing unless it was.
ALTER TABLE orders ADD COLUMN held_minor INTEGER NOT NULL DEFAULT 0
    CHECK (held_minor >= 0 AND held_minor <= minor AND (held_minor = 0 OR state = 'PAID'));

DROP INDEX refunds_holding;
ALTER TABLE refunds RENAME TO refunds_before;

CREATE TABLE refunds (
    refund_order_no  TEXT NOT NULL PRIMARY KEY,
    pay_order_no     TEXT NOT NULL REFERENCES orders (pay_order_no),
    seq              INTEGER NOT NULL CHECK (seq >= 1),
    attempt_id       TEXT NOT NULL REFERENCES attempts (attempt_id),
    minor            INTEGER NOT NULL CHECK (minor > 0),
    currency         TEXT NOT NULL,
    state            TEXT NOT NULL CHECK (
        state = 'RESERVED' OR state = 'PROCESSING' OR state = 'UNKNOWN'
        OR state = 'MANUAL' OR state = 'SUCCEEDED' OR state = 'FAILED'),
    -- Surplus money has a cause; what a merchant asked for has its number.
    cause            TEXT,
    merchant_id      TEXT,
    request_no       TEXT,
    notice_url       TEXT,
    sealed           BLOB,
    created          INTEGER NOT NULL,
    waits_until      INTEGER,
    left_at          INTEGER,
    epoch            INTEGER NOT NULL,
    receipt_minor    INTEGER,
    receipt_currency TEXT,
    institution_no   TEXT,
    refunded_at      INTEGER,
    reason           TEXT,
    late_success     INTEGER NOT NULL CHECK (late_success = 0 OR late_success = 1),
    -- What a first operator found, where people must decide.
    operator         TEXT,
    found_back       INTEGER,
    statement        BLOB,
    excess_minor     INTEGER NOT NULL CHECK (excess_minor >= 0 AND excess_minor <= minor),
    UNIQUE (pay_order_no, seq),
    CHECK ((cause IS NULL) = (request_no IS NOT NULL)),
    CHECK ((request_no IS NULL) = (merchant_id IS NULL)),
    CHECK ((waits_until IS NULL) = (left_at IS NOT NULL)),
    CHECK (receipt_minor IS NULL OR (receipt_minor = minor AND receipt_currency = currency))
) STRICT, WITHOUT ROWID;

INSERT INTO refunds (refund_order_no, pay_order_no, seq, attempt_id, minor, currency, state, cause,
    created, waits_until, epoch, late_success, excess_minor)
    SELECT refund_order_no, pay_order_no, seq, attempt_id, minor, currency, state, cause, created,
    created, 0, 0, 0 FROM refunds_before;

DROP TABLE refunds_before;

-- A4: of one surplus, never more than one refund is on its way.
CREATE UNIQUE INDEX refunds_surplus ON refunds (attempt_id)
    WHERE cause IS NOT NULL AND state <> 'FAILED' AND state <> 'SUCCEEDED';

-- R6: one refund request number, one refund.
CREATE UNIQUE INDEX refunds_by_merchant ON refunds (merchant_id, request_no)
    WHERE request_no IS NOT NULL;

-- Where leftovers of dead processes are found (S1), and who is not finished (F2).
CREATE INDEX refunds_open ON refunds (state, epoch) WHERE state <> 'FAILED' AND state <> 'SUCCEEDED';

-- Orders that had surplus money waiting are looked at.
UPDATE orders SET due_at = 0 WHERE due_at IS NULL AND pay_order_no IN
    (SELECT pay_order_no FROM refunds WHERE state = 'RESERVED');
