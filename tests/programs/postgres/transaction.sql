\set id random(1, 1000)
BEGIN;
UPDATE bench SET balance = balance + 1 WHERE id = :id;
SELECT balance, 'planted-secret' FROM bench WHERE id = :id;
INSERT INTO history VALUES (:id);
END;
