-- Columns and tables are called by the trade's words, as the code and the documents are; nothing else changes.
ALTER TABLE orders RENAME COLUMN settling TO paying_attempt;
ALTER TABLE orders RENAME COLUMN held_minor TO reserved_minor;
ALTER TABLE attempts RENAME COLUMN handover TO payment_action;
ALTER TABLE inbox RENAME COLUMN verdict TO status;
ALTER TABLE incidents RENAME TO reconciliation_breaks;
ALTER TABLE reconciliation_breaks RENAME COLUMN incident_id TO break_id;
