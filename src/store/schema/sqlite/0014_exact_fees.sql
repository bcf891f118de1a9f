-- A fee as decimal text in the currency's main unit: it may have more places than the currency.
ALTER TABLE attempts ADD COLUMN fee TEXT;
-- What was stored in minor units, of which a yen has one and every other currency a hundred.
UPDATE attempts SET fee = CASE WHEN receipt_currency = 'JPY' THEN CAST(fee_minor AS TEXT)
    ELSE CAST(fee_minor / 100 AS TEXT) || '.' || substr('0' || CAST(fee_minor % 100 AS TEXT), -2) END
    WHERE fee_minor IS NOT NULL;
ALTER TABLE attempts DROP COLUMN fee_minor;
