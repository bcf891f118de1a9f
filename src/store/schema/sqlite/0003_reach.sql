-- What is over is not over for the institution: money may still come late, and what was paid may
-- still go back. So it is kept when an attempt ended, or a refund of it last moved, by our clock,
-- and found by institution (F2). Absent while an attempt is live: `attempts_live` finds those.
ALTER TABLE attempts ADD COLUMN ended_at INTEGER;
UPDATE attempts SET ended_at = max(sent_at, coalesce(paid_at, sent_at))
    WHERE state = 'PAID' OR state = 'FAILED' OR state = 'CLOSED';
CREATE INDEX attempts_ended ON attempts (institution_id, ended_at) WHERE ended_at IS NOT NULL;
