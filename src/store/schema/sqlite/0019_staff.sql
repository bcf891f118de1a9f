-- People who sign decisions are staff, an unwanted payment is an excess, and a journal entry has a kind.
ALTER TABLE refunds RENAME COLUMN operator TO staff;
ALTER TABLE journal RENAME COLUMN happening TO kind;
UPDATE journal SET kind = 'EXCESS' WHERE kind = 'SURPLUS';
UPDATE journal SET kind = 'EXCESS_REFUNDED' WHERE kind = 'SURPLUS_REFUNDED';
