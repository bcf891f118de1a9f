-- What an attempt is paid with, and by when the payer must have paid. Until now every institution had one product,
-- and a payer as long as the order.
ALTER TABLE attempts ADD COLUMN product TEXT NOT NULL DEFAULT 'STANDARD';
ALTER TABLE attempts ADD COLUMN pay_by INTEGER NOT NULL DEFAULT 0;
UPDATE attempts SET pay_by = (SELECT expires FROM orders WHERE orders.pay_order_no = attempts.pay_order_no);

-- What the product wants of the payer, sealed; destroyed some time after the attempt ended (D4).
ALTER TABLE attempts ADD COLUMN payer_sealed BLOB;
