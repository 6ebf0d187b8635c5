-- A night passes in a database made by subscriptions.sql: 1 % of the addresses change, people subscribe and
-- cancel, payments and events are added. `-v night=N` makes each night another one.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?night}
\else
  \set night 1
\endif
SET timezone = 'UTC';
BEGIN;
SELECT count(*) AS subscribers, max(id) AS last FROM subscribers \gset
UPDATE addresses SET line1 = (1 + pick(id, 100 + :night, 300)) || ' rue Neuve', valid_from = date '2026-11-22' + :night
  WHERE pick(id, 200 + :night, 100) = 0;
UPDATE subscriptions SET state = 'cancelled', ends = date '2026-11-22' + :night WHERE state = 'active' AND pick(id, 300 + :night, 1000) = 0;
DELETE FROM deliveries WHERE pick(subscription_id, 400 + :night, 2000) = 0;
INSERT INTO subscribers (id, first_name, last_name, consents, created_at, updated_at)
  SELECT :last + i, 'Nouvelle', 'Abonnée ' || i, '{}', timestamptz '2026-11-22 22:00:00+00' + :night * interval '1 day', timestamptz '2026-11-22 22:00:00+00'
  FROM generate_series(1, greatest(:subscribers / 500, 1)) i;
INSERT INTO payments (subscription_id, day, amount, method, reference)
  SELECT i, '2026-11-22', 29.90, 'carte', md5(:night || 'n' || i)::uuid FROM generate_series(1, greatest(:subscribers / 100, 1)) i;
INSERT INTO events SELECT timestamptz '2026-11-22 22:00:00+00' + :night * interval '1 day', i, 'night', NULL FROM generate_series(1, greatest(:subscribers / 100, 1)) i;
COMMIT;
