-- Nonces one behind the other: whether one is spent the writer knows, who has read them all. Rows by
-- key and nonce wrote a page of their own for each. Forgotten by age, whatever their order.
DROP INDEX nonces_by_age;
ALTER TABLE nonces RENAME TO nonces_before;

CREATE TABLE nonces (
    nonce_no INTEGER NOT NULL PRIMARY KEY,
    key_id   TEXT NOT NULL,
    nonce    TEXT NOT NULL,
    created  INTEGER NOT NULL
) STRICT;

INSERT INTO nonces (key_id, nonce, created)
    SELECT key_id, nonce, created FROM nonces_before ORDER BY created;

DROP TABLE nonces_before;

CREATE INDEX nonces_by_age ON nonces (created);
