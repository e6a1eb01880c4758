-- Up Migration
-- What intelligence stores. Hours and days are UTC; packed forms are described in fold/column.ts, segment.ts and aggregate.ts.

-- The store's identity: a new one (an empty database) begins its revisions anew, and readers of rollups can tell.
CREATE TABLE store (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  epoch uuid NOT NULL DEFAULT gen_random_uuid(),
  created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO store DEFAULT VALUES;
-- Taken while a fold holds its hour: rises with every fold of a window.
CREATE SEQUENCE revision;

CREATE TABLE cluster (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  cluster_id text NOT NULL UNIQUE,
  -- Batches whose publish time lay more than five minutes from the bus's: kept, counted and shown.
  skewed_batches bigint NOT NULL DEFAULT 0,
  last_skew_ms bigint,
  last_skewed_at timestamptz,
  -- Rises when aggregates of days were made anew: what rests on history is then looked at again.
  days_revision bigint NOT NULL DEFAULT 0
);

-- Names of batches that were stored: a second delivery meets its name here and does nothing. Kept longer than stream and spool.
CREATE TABLE batch_name (
  cluster integer NOT NULL,
  epoch uuid NOT NULL,
  sequence bigint NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (cluster, epoch, sequence)
);
CREATE INDEX batch_name_received ON batch_name USING brin (received_at);

-- Batches as they came (cut at hours where they span several), until they are folded: seconds, as a rule.
CREATE TABLE batch (
  cluster integer NOT NULL,
  hour timestamptz NOT NULL,
  id bigint GENERATED ALWAYS AS IDENTITY,
  kind smallint NOT NULL, -- 0 usage, 1 requests
  published_at timestamptz NOT NULL,
  payload bytea NOT NULL,
  PRIMARY KEY (cluster, hour, id)
);
ALTER TABLE batch ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE batch SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 100000);

-- Hours with batches that wait, marked in the transaction that stores the batches. `windows`: bit w is the w-th five minutes.
CREATE TABLE dirty_hour (
  cluster integer NOT NULL,
  hour timestamptz NOT NULL,
  windows integer NOT NULL,
  first_marked timestamptz NOT NULL,
  last_marked timestamptz NOT NULL,
  marks bigint NOT NULL,
  PRIMARY KEY (cluster, hour)
);

-- How far an hour has come: which windows have cells, which of them went out as final, whether it is packed; which of its minutes
-- hold any sample (bit m). `due_at`: when something is to be done for it without new batches; null once it is closed.
CREATE TABLE hour_state (
  cluster integer NOT NULL,
  hour timestamptz NOT NULL,
  windows integer NOT NULL,
  final_windows integer NOT NULL,
  closed boolean NOT NULL,
  usage_minutes bigint NOT NULL,
  request_minutes bigint NOT NULL,
  revision bigint NOT NULL,
  due_at timestamptz,
  PRIMARY KEY (cluster, hour)
);
CREATE INDEX hour_state_due ON hour_state (due_at) WHERE due_at IS NOT NULL;

-- Cells of windows of hours that are still open, a row a shard of workloads.
CREATE TABLE cell (
  cluster integer NOT NULL,
  hour timestamptz NOT NULL,
  window_index smallint NOT NULL,
  shard smallint NOT NULL,
  data bytea NOT NULL,
  PRIMARY KEY (cluster, hour, window_index, shard)
);
ALTER TABLE cell ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE workload (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  cluster integer NOT NULL,
  namespace text NOT NULL,
  kind text NOT NULL,
  name text NOT NULL,
  UNIQUE (cluster, namespace, name, kind)
);
CREATE TABLE pod (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  cluster integer NOT NULL,
  uid uuid NOT NULL,
  workload integer NOT NULL,
  -- From batches that bring history of pods that no inventory names; '' where the inventory names it.
  name text NOT NULL DEFAULT '',
  first_hour timestamptz NOT NULL,
  -- The last day with packed hours: long after it the pod is forgotten.
  last_day timestamptz NOT NULL,
  UNIQUE (cluster, uid)
);
CREATE INDEX pod_workload ON pod (workload);
CREATE INDEX pod_name ON pod (cluster, name) WHERE name <> '';

-- Closed hours. Samples exact, 90 days; loads, requests and aggregates 13 months.
CREATE TABLE pod_hour (
  cluster integer NOT NULL,
  pod integer NOT NULL,
  hour timestamptz NOT NULL,
  samples bytea NOT NULL,
  PRIMARY KEY (cluster, hour, pod)
);
ALTER TABLE pod_hour ALTER COLUMN samples SET STORAGE EXTERNAL;
CREATE TABLE workload_hour (
  cluster integer NOT NULL,
  workload integer NOT NULL,
  hour timestamptz NOT NULL,
  revision bigint NOT NULL,
  load bytea NOT NULL,
  requests bytea,
  aggregate bytea NOT NULL,
  PRIMARY KEY (cluster, hour, workload)
);
ALTER TABLE workload_hour ALTER COLUMN load SET STORAGE EXTERNAL, ALTER COLUMN requests SET STORAGE EXTERNAL, ALTER COLUMN aggregate SET STORAGE EXTERNAL;
CREATE TABLE workload_day (
  cluster integer NOT NULL,
  workload integer NOT NULL,
  day timestamptz NOT NULL,
  aggregate bytea NOT NULL,
  PRIMARY KEY (cluster, day, workload)
);
ALTER TABLE workload_day ALTER COLUMN aggregate SET STORAGE EXTERNAL;
-- Days whose hours changed since their aggregates were made.
CREATE TABLE dirty_day (
  cluster integer NOT NULL,
  day timestamptz NOT NULL,
  last_marked timestamptz NOT NULL,
  marks bigint NOT NULL,
  PRIMARY KEY (cluster, day)
);

-- What the agents say of missing telemetry, of sources and of backfill.
CREATE TABLE coverage_event (
  cluster_id text NOT NULL,
  id uuid NOT NULL,
  type text NOT NULL,
  source text NOT NULL,
  starts_at timestamptz NOT NULL,
  ends_at timestamptz NOT NULL,
  reason text NOT NULL,
  count bigint,
  workload text,
  detail jsonb NOT NULL,
  received_at timestamptz NOT NULL,
  PRIMARY KEY (cluster_id, id)
);
CREATE INDEX coverage_event_time ON coverage_event (cluster_id, type, ends_at);

-- The latest assessment of each workload, as it was published last.
CREATE TABLE assessment (
  cluster_id text NOT NULL,
  workload text NOT NULL,
  revision bigint NOT NULL,
  assessed_at timestamptz NOT NULL,
  published_at timestamptz NOT NULL,
  body jsonb NOT NULL,
  PRIMARY KEY (cluster_id, workload)
);
