-- What was noted of orders beside the ledger: masked, compressed, sealed, bounded for each order, and for
-- a shorter time. A leaf is named by a number that was drawn for it, so that it can be sealed to its row.
CREATE TABLE trails (
    pay_order_no TEXT NOT NULL,
    at           INTEGER NOT NULL,
    leaf         BLOB NOT NULL,
    is_stranger  INTEGER NOT NULL CHECK (is_stranger = 0 OR is_stranger = 1),
    sealed       BLOB NOT NULL,
    -- Leaves before this one that were given up.
    given_up     INTEGER NOT NULL,
    PRIMARY KEY (pay_order_no, at, leaf)
) STRICT, WITHOUT ROWID;

CREATE INDEX trails_by_age ON trails (at);
