-- Each process that had this store, under the mark that it leaves on attempts and refunds. What one left
-- unfinished is taken over once it has expired, and never while it lives. Those from before this table are
-- gone: nobody else can have the file.
CREATE TABLE nodes (
    epoch INTEGER NOT NULL PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('LIVE', 'EXPIRED'))
) STRICT;

WITH RECURSIVE gone (epoch, last) AS (
    SELECT 1, number FROM meta WHERE name = 'epoch' AND number > 0
    UNION ALL
    SELECT epoch + 1, last FROM gone WHERE epoch < last)
INSERT INTO nodes (epoch, state) SELECT epoch, 'EXPIRED' FROM gone;
