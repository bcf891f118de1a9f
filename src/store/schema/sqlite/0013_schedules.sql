-- Each attempt and refund knows where its own schedule stands, so that no change of its order begins it
-- anew. Those that are open when this is applied are looked at once when their order was due, and go on
-- from there.
ALTER TABLE attempts ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN next_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN next_at INTEGER NOT NULL DEFAULT 0;
-- What was asked before counts: nothing is sent again faster because of this.
UPDATE attempts SET asked = (SELECT tries FROM orders WHERE orders.pay_order_no = attempts.pay_order_no)
    WHERE state <> 'PAID' AND state <> 'FAILED' AND state <> 'CLOSED'
    AND (state = 'UNKNOWN' OR state = 'CLOSING');
UPDATE refunds SET asked = (SELECT tries FROM orders WHERE orders.pay_order_no = refunds.pay_order_no)
    WHERE state <> 'FAILED' AND state <> 'SUCCEEDED' AND (state = 'UNKNOWN' OR state = 'PROCESSING');

-- Where a due order waits: for which institution, how urgently (0 first), and who has it until when. An
-- empty institution stands for none; what was due before is looked at there once.
ALTER TABLE orders ADD COLUMN due_institution TEXT NOT NULL DEFAULT '';
ALTER TABLE orders ADD COLUMN due_urgency INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN leased_until INTEGER;

DROP INDEX orders_due;
-- What is leased is due again when its lease ends.
CREATE INDEX orders_due ON orders (due_institution, due_urgency, due_at) WHERE due_at IS NOT NULL;
