-- An attempt has both: our account at the institution, by our own name for it, and who receives the money there, by
-- the institution's number (C2, R5). What was begun before accounts had names: the number is both.
ALTER TABLE attempts ADD COLUMN receiver_id TEXT NOT NULL DEFAULT '';
UPDATE attempts SET receiver_id = account_id;
UPDATE reconciliation_breaks SET kind = 'receiver' WHERE kind = 'account';

-- What needs an account is found as what needs an institution is (F2).
DROP INDEX attempts_ended;
CREATE INDEX attempts_ended ON attempts (institution_id, account_id, ended_at) WHERE ended_at IS NOT NULL;

-- What each account was at its institution under the last configuration that named it (F2).
CREATE TABLE accounts (
    institution_id TEXT NOT NULL,
    account_id     TEXT NOT NULL,
    receiver_id    TEXT NOT NULL,
    PRIMARY KEY (institution_id, account_id)
) STRICT, WITHOUT ROWID;

-- What was begun before has its number: it cannot become another one unseen.
INSERT INTO accounts SELECT DISTINCT institution_id, account_id, receiver_id FROM attempts;
