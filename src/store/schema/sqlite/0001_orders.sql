-- Orders and what became of them. Sums are whole minor units, moments milliseconds since 1970,
-- states their names. Columns called `sealed` or `handover` hold personal data and open only with
-- the seal, in their own table, row and column (D2). The constraints are a second line: the
-- domain decides, and what it must never decide is refused here once more. They are spelled with
-- OR: a list after IN is built as a table of its own at every write.

CREATE TABLE meta (
    name   TEXT NOT NULL PRIMARY KEY,
    number INTEGER,
    sealed BLOB
) STRICT, WITHOUT ROWID;

CREATE TABLE orders (
    pay_order_no      TEXT NOT NULL PRIMARY KEY,
    merchant_id       TEXT NOT NULL,
    merchant_order_no TEXT NOT NULL,
    order_date        TEXT NOT NULL,
    minor             INTEGER NOT NULL CHECK (minor > 0),
    currency          TEXT NOT NULL,
    business_type     TEXT NOT NULL,
    transaction_type  TEXT NOT NULL,
    return_url        TEXT NOT NULL,
    notice_url        TEXT,
    expire_minutes    INTEGER NOT NULL CHECK (expire_minutes > 0),
    named_institution TEXT,
    named_mode        TEXT CHECK (named_mode IS NULL OR named_institution IS NOT NULL),
    terms_digest      BLOB NOT NULL,
    sealed            BLOB NOT NULL,
    created           INTEGER NOT NULL,
    expires           INTEGER NOT NULL,
    state             TEXT NOT NULL CHECK (state = 'OPEN' OR state = 'PAID' OR state = 'CLOSED'),
    ending            TEXT CHECK (ending = 'EXPIRED' OR ending = 'MERCHANT'),
    version           INTEGER NOT NULL CHECK (version >= 1),
    settling          TEXT,
    due_at            INTEGER,
    tries             INTEGER NOT NULL DEFAULT 0,
    fence             INTEGER NOT NULL DEFAULT 0,
    CHECK ((state = 'PAID') = (settling IS NOT NULL)), -- O1
    CHECK (state <> 'OPEN' OR due_at IS NOT NULL)      -- Z3
) STRICT;

CREATE UNIQUE INDEX orders_by_merchant ON orders (merchant_id, merchant_order_no);
-- What is leased is due again when its lease ends.
CREATE INDEX orders_due ON orders (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE attempts (
    pay_order_no     TEXT NOT NULL REFERENCES orders (pay_order_no),
    seq              INTEGER NOT NULL CHECK (seq >= 1),
    attempt_id       TEXT NOT NULL UNIQUE,
    institution_id   TEXT NOT NULL,
    account_id       TEXT NOT NULL,
    mode             TEXT NOT NULL,
    minor            INTEGER NOT NULL CHECK (minor > 0),
    currency         TEXT NOT NULL,
    state            TEXT NOT NULL CHECK (
        state = 'INTENT' OR state = 'UNKNOWN' OR state = 'ACCEPTED' OR state = 'CLOSING'
        OR state = 'PAID' OR state = 'FAILED' OR state = 'CLOSED'),
    stamp_at         INTEGER NOT NULL,
    stamp_nonce      BLOB NOT NULL,
    sent_at          INTEGER NOT NULL,
    configuration    INTEGER NOT NULL,
    epoch            INTEGER NOT NULL,
    handover         BLOB,
    receipt_minor    INTEGER,
    receipt_currency TEXT,
    institution_no   TEXT,
    paid_at          INTEGER,
    fee_minor        INTEGER,
    reason           TEXT,
    late_success     INTEGER NOT NULL CHECK (late_success = 0 OR late_success = 1),
    PRIMARY KEY (pay_order_no, seq),
    -- O2: what was paid is what was asked.
    CHECK (receipt_minor IS NULL OR (receipt_minor = minor AND receipt_currency = currency)),
    CHECK (state <> 'PAID' OR receipt_minor IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- A2, and where leftovers of dead processes are found (S1).
CREATE UNIQUE INDEX attempts_live ON attempts (pay_order_no)
    WHERE state <> 'PAID' AND state <> 'FAILED' AND state <> 'CLOSED';

CREATE TABLE refunds (
    refund_order_no TEXT NOT NULL PRIMARY KEY,
    pay_order_no    TEXT NOT NULL REFERENCES orders (pay_order_no),
    seq             INTEGER NOT NULL CHECK (seq >= 1),
    attempt_id      TEXT NOT NULL REFERENCES attempts (attempt_id),
    minor           INTEGER NOT NULL CHECK (minor > 0),
    currency        TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (
        state = 'RESERVED' OR state = 'PROCESSING' OR state = 'UNKNOWN'
        OR state = 'MANUAL' OR state = 'SUCCEEDED' OR state = 'FAILED'),
    cause           TEXT NOT NULL,
    created         INTEGER NOT NULL,
    UNIQUE (pay_order_no, seq)
) STRICT, WITHOUT ROWID;

-- A4: of one surplus, never more than one refund is holding.
CREATE UNIQUE INDEX refunds_holding ON refunds (attempt_id) WHERE state <> 'FAILED';

CREATE TABLE events (
    event_id     TEXT NOT NULL PRIMARY KEY,
    merchant_id  TEXT NOT NULL,
    sequence     INTEGER NOT NULL CHECK (sequence >= 1),
    event_type   TEXT NOT NULL,
    pay_order_no TEXT NOT NULL REFERENCES orders (pay_order_no),
    version      INTEGER NOT NULL CHECK (version >= 1),
    destination  TEXT,
    origin       TEXT,
    sealed       BLOB NOT NULL,
    born         INTEGER NOT NULL,
    state        TEXT NOT NULL CHECK (
        state = 'PENDING' OR state = 'LEASED' OR state = 'DELIVERED' OR state = 'DEAD'),
    due_at       INTEGER,
    delivered_at INTEGER,
    tries        INTEGER NOT NULL DEFAULT 0,
    fence        INTEGER NOT NULL DEFAULT 0,
    -- Z3: what can be delivered and is not has a due time, and nothing else has one.
    CHECK ((due_at IS NOT NULL) = ((state = 'PENDING' OR state = 'LEASED') AND origin IS NOT NULL)),
    CHECK ((state = 'DELIVERED') = (delivered_at IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX events_by_merchant ON events (merchant_id, sequence);
CREATE INDEX events_due ON events (origin, state, due_at) WHERE due_at IS NOT NULL;

-- Outlives the events it counted, so that no number is given twice (K1).
CREATE TABLE sequences (
    merchant_id TEXT NOT NULL PRIMARY KEY,
    last        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A row moves a sum: the account `debit` is debited and `credit` is credited, so every entry
-- balances by its shape (M1) and M2 is the sum over all accounts.
CREATE TABLE journal (
    entry_id     INTEGER NOT NULL PRIMARY KEY,
    at           INTEGER NOT NULL,
    happening    TEXT NOT NULL,
    pay_order_no TEXT NOT NULL REFERENCES orders (pay_order_no),
    debit        TEXT NOT NULL,
    credit       TEXT NOT NULL CHECK (credit <> debit),
    minor        INTEGER NOT NULL CHECK (minor > 0),
    currency     TEXT NOT NULL
) STRICT;

CREATE TABLE audit (
    chain_id TEXT NOT NULL,
    seq      INTEGER NOT NULL CHECK (seq >= 1),
    at       INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    object   TEXT NOT NULL,
    result   TEXT NOT NULL,
    prev     BLOB NOT NULL,
    hash     BLOB NOT NULL,
    PRIMARY KEY (chain_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE nonces (
    key_id  TEXT NOT NULL,
    nonce   TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (key_id, nonce)
) STRICT, WITHOUT ROWID;

CREATE INDEX nonces_by_age ON nonces (created);

CREATE TABLE inbox (
    institution_id TEXT NOT NULL,
    digest         BLOB NOT NULL,
    verdict        TEXT NOT NULL CHECK (verdict = 'GENUINE' OR verdict = 'QUARANTINED' OR verdict = 'FORGED'),
    at             INTEGER NOT NULL,
    sealed         BLOB NOT NULL,
    PRIMARY KEY (institution_id, digest)
) STRICT;

CREATE INDEX inbox_forged ON inbox (institution_id) WHERE verdict = 'FORGED';

-- Which institution a payer last used with a merchant; both stand in the digest.
CREATE TABLE payers (
    payer_digest   BLOB NOT NULL PRIMARY KEY,
    institution_id TEXT NOT NULL,
    at             INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
