-- Addresses that merchants gave and words that institutions wrote may be about a person, so they are
-- sealed like everything else that may (D2). What stands in the plain columns is moved between this
-- migration and the next, which takes those away.
ALTER TABLE attempts ADD COLUMN reason_sealed BLOB;
ALTER TABLE refunds ADD COLUMN reason_sealed BLOB;
ALTER TABLE refunds ADD COLUMN notice_sealed BLOB;
-- Where an event goes; its queue is known by the origin alone (N7).
ALTER TABLE events ADD COLUMN target BLOB;
-- The note of the callback that paid is never given up. What is in a leaf is told by kinds, so that of
-- what was given up it can be said what it was.
ALTER TABLE trails ADD COLUMN is_paying INTEGER NOT NULL DEFAULT 0 CHECK (is_paying = 0 OR is_paying = 1);
ALTER TABLE trails ADD COLUMN holds TEXT NOT NULL DEFAULT '{}';
ALTER TABLE trails ADD COLUMN lost TEXT NOT NULL DEFAULT '{}';
