-- Up Migration
-- What cost stores. Money is integers of 1e-9 of the currency (int8: up to nine thousand million of it a row); hours are UTC.

-- A cluster's number, and the time for which its inventory is known: from the first word of its agent to the last.
CREATE TABLE cluster (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  cluster_id text NOT NULL UNIQUE,
  observed_from timestamptz,
  observed_until timestamptz
);

-- Stores of usage in the order in which they were first heard of: a later one's revisions stand above an earlier one's.
CREATE TABLE store_epoch (
  number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  epoch uuid NOT NULL UNIQUE
);

-- Rollups as they came. Of a window the highest complete (epoch, revision) counts; what lies below it is deleted.
CREATE TABLE rollup_part (
  cluster integer NOT NULL,
  window_start timestamptz NOT NULL,
  epoch integer NOT NULL,
  revision bigint NOT NULL,
  part integer NOT NULL,
  parts integer NOT NULL,
  final boolean NOT NULL,
  payload bytea NOT NULL,
  PRIMARY KEY (cluster, window_start, epoch, revision, part)
);
ALTER TABLE rollup_part ALTER COLUMN payload SET STORAGE EXTERNAL;

-- Hours to be computed anew, marked in the transaction that changed what they rest on.
CREATE TABLE dirty_hour (
  cluster integer NOT NULL,
  hour timestamptz NOT NULL,
  due_at timestamptz NOT NULL,
  PRIMARY KEY (cluster, hour)
);
CREATE INDEX dirty_hour_due ON dirty_hour (hour DESC, due_at);

-- What of nodes and pods decides costs; they stay after the objects are gone, for as long as their hours.
CREATE TABLE node (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  cluster integer NOT NULL,
  uid text NOT NULL,
  name text NOT NULL,
  starts_at timestamptz NOT NULL,
  ends_at timestamptz,
  instance_type text,
  region text,
  capacity_type text NOT NULL,
  -- Facts that its price depends on and what it offers; null while its size is unknown.
  facts jsonb,
  UNIQUE (cluster, uid)
);
CREATE INDEX node_name ON node (cluster, name);

CREATE TABLE pod (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  cluster integer NOT NULL,
  uid text NOT NULL,
  namespace text NOT NULL,
  name text NOT NULL,
  -- Of the workload key: what owns history across UIDs.
  workload_namespace text NOT NULL,
  workload_kind text NOT NULL,
  workload_name text NOT NULL,
  node_name text NOT NULL,
  starts_at timestamptz NOT NULL,
  ends_at timestamptz,
  labels jsonb NOT NULL,
  -- Effective requests of its containers over time: [{since_ms, containers: [{name, requests}]}], the earliest first.
  requests jsonb NOT NULL,
  request_cpu_millicores float8 NOT NULL,
  request_memory_bytes float8 NOT NULL,
  UNIQUE (cluster, uid)
);
CREATE INDEX pod_workload ON pod (cluster, workload_namespace, workload_name);
CREATE INDEX pod_name ON pod (cluster, namespace, name);
CREATE INDEX pod_ends ON pod (cluster, ends_at);

-- What a node costs an hour, from the hour in which that was first known; before it the earliest row stands.
CREATE TABLE node_price (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  node integer NOT NULL,
  currency text NOT NULL,
  valid_from timestamptz NOT NULL,
  -- Null: unknown, which is never zero.
  per_hour bigint,
  basis text,
  source text,
  as_of date,
  typical boolean NOT NULL,
  note text,
  quarantined jsonb NOT NULL,
  UNIQUE (node, currency, valid_from)
);
-- The price that was used for a key on a day: the measure of the next day's.
CREATE TABLE key_price (
  price_key text NOT NULL,
  day date NOT NULL,
  currency text NOT NULL,
  per_hour bigint NOT NULL,
  basis text NOT NULL,
  source text NOT NULL,
  as_of date,
  PRIMARY KEY (price_key, day)
);

-- An hour of a cluster, replaced as a whole: the sums of its nodes, what of it is covered, and who could not be charged.
CREATE TABLE cluster_hour (
  cluster integer NOT NULL,
  hour timestamptz NOT NULL,
  currency text NOT NULL,
  revision integer NOT NULL,
  digest bytea NOT NULL,
  closed boolean NOT NULL,
  published_revision integer NOT NULL DEFAULT 0,
  covered_from timestamptz,
  covered_to timestamptz,
  covered_ms integer NOT NULL,
  node_cost bigint NOT NULL,
  allocated_cost bigint NOT NULL,
  idle_cost bigint NOT NULL,
  overhead_cost bigint NOT NULL,
  -- Cells and nodes whose parts do not sum to their cost: 0, or something is broken and was logged.
  unbalanced integer NOT NULL,
  -- Pods with usage or on a node that could not be charged, by workload; nodes without a price or a size, with the reason.
  uncharged jsonb NOT NULL,
  unpriced jsonb NOT NULL,
  computed_at timestamptz NOT NULL,
  PRIMARY KEY (cluster, hour)
);

CREATE TABLE node_hour (
  cluster integer NOT NULL,
  hour timestamptz NOT NULL,
  node integer NOT NULL,
  currency text NOT NULL,
  price integer NOT NULL,
  present_ms integer NOT NULL,
  cost bigint NOT NULL,
  allocated bigint NOT NULL,
  idle bigint NOT NULL,
  overhead bigint NOT NULL,
  PRIMARY KEY (cluster, hour, node)
);

CREATE TABLE pod_hour (
  cluster integer NOT NULL,
  hour timestamptz NOT NULL,
  pod integer NOT NULL,
  node integer NOT NULL,
  currency text NOT NULL,
  present_ms integer NOT NULL,
  cpu_cost bigint NOT NULL,
  memory_cost bigint NOT NULL,
  gpu_cost bigint NOT NULL,
  -- Of the cells whose usage is known: what it filled, and what it could have filled; cells and time of them.
  actual_cost bigint NOT NULL,
  measured_cost bigint NOT NULL,
  measured_ms integer NOT NULL,
  cells integer NOT NULL,
  measured_cells integer NOT NULL,
  -- Integrals over time of what is charged, and over measured time of what is used.
  charged_cpu_millicore_seconds float8 NOT NULL,
  charged_memory_byte_seconds float8 NOT NULL,
  used_cpu_millicore_seconds float8 NOT NULL,
  used_memory_byte_seconds float8 NOT NULL,
  PRIMARY KEY (cluster, hour, pod)
);
CREATE INDEX pod_hour_pod ON pod_hour (cluster, pod, hour);

-- Recommendations as they were published last; lapsed ones stay, so that an older event is known as such.
CREATE TABLE recommendation (
  id uuid PRIMARY KEY,
  cluster integer NOT NULL,
  revision integer NOT NULL,
  lapsed boolean NOT NULL,
  body jsonb NOT NULL,
  updated_at timestamptz NOT NULL
);
CREATE INDEX recommendation_standing ON recommendation (cluster) WHERE NOT lapsed;
