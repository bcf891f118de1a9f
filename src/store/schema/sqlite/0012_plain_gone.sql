-- What was stored as plain text and is sealed now.
ALTER TABLE orders DROP COLUMN return_url;
ALTER TABLE orders DROP COLUMN notice_url;
ALTER TABLE attempts DROP COLUMN reason;
ALTER TABLE refunds DROP COLUMN reason;
ALTER TABLE refunds DROP COLUMN notice_url;
ALTER TABLE events DROP COLUMN destination;
