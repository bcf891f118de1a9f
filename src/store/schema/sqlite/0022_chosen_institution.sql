-- The institution chosen for a payer, while its attempt waits for the payer to go on from our page.
ALTER TABLE orders ADD COLUMN chosen_institution TEXT;
