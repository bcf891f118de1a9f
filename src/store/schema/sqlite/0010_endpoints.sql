-- Where each institution was last asked, so that neither a reload nor a start moves it while something
-- is unfinished there (F2).
CREATE TABLE endpoints (
    institution_id TEXT NOT NULL PRIMARY KEY,
    kind           TEXT NOT NULL,
    url            TEXT NOT NULL
) STRICT, WITHOUT ROWID;
