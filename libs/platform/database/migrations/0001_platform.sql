-- Up Migration
-- What the platform keeps in each service's schema.

-- What follows from a commit, until the bus has it. Payloads are packed already: compressing them again costs and gains nothing.
CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  subject text NOT NULL,
  message_id text NOT NULL,
  headers jsonb NOT NULL,
  payload bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE outbox ALTER COLUMN payload SET STORAGE EXTERNAL;
-- The table empties all the time: vacuum by what came, not by a share of what stands.
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Who owns a piece of work. Rows stay, so that the fence of a name only grows.
CREATE TABLE lease (
  name text PRIMARY KEY,
  holder text NOT NULL,
  fence bigint NOT NULL,
  expires_at timestamptz NOT NULL
);
