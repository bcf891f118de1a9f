-- What an institution has ever named as its own did arrive, and never ends by "not found" (V5). What
-- stands as UNKNOWN was never accepted; of what is being closed it was not kept, so it counts as named.
ALTER TABLE attempts ADD COLUMN named INTEGER NOT NULL DEFAULT 0 CHECK (named = 0 OR named = 1);
UPDATE attempts SET named = 1
    WHERE handover IS NOT NULL OR state = 'ACCEPTED' OR state = 'CLOSING' OR state = 'PAID'
    OR state = 'CLOSED';
ALTER TABLE refunds ADD COLUMN named INTEGER NOT NULL DEFAULT 0 CHECK (named = 0 OR named = 1);
UPDATE refunds SET named = 1
    WHERE state = 'PROCESSING' OR state = 'MANUAL' OR state = 'SUCCEEDED';
