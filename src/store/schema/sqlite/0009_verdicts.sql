-- What two operators read on a statement beside whether the money went back.
ALTER TABLE refunds ADD COLUMN found_no TEXT;
ALTER TABLE refunds ADD COLUMN found_at INTEGER;
-- What they had ended as gone back had no receipt, and no statement of its day could be read. It went
-- back when it last moved, under a number that nobody wrote down.
UPDATE refunds SET receipt_minor = minor, receipt_currency = currency,
    refunded_at = (SELECT ended_at FROM attempts WHERE attempts.attempt_id = refunds.attempt_id)
    WHERE state = 'SUCCEEDED' AND receipt_minor IS NULL;
