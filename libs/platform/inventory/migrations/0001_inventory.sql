-- Up Migration
-- The mirror of what the agents say of their clusters.

-- The version that each cluster's mirror stands at.
CREATE TABLE inventory_cluster (
  cluster_id text PRIMARY KEY,
  epoch text,
  epoch_started_at timestamptz,
  generation bigint NOT NULL DEFAULT 0,
  sequence bigint NOT NULL DEFAULT 0,
  observed_at timestamptz,
  applied_at timestamptz,
  needs_snapshot boolean NOT NULL DEFAULT true
);

CREATE TABLE inventory_object (
  cluster_id text NOT NULL,
  kind text NOT NULL,
  uid text NOT NULL,
  namespace text,
  name text NOT NULL,
  body jsonb NOT NULL,
  -- Namespace/Kind/name of the workload that a pod belongs to.
  workload text,
  epoch text NOT NULL,
  generation bigint NOT NULL,
  sequence bigint NOT NULL,
  first_seen timestamptz NOT NULL,
  last_seen timestamptz NOT NULL,
  removed_at timestamptz,
  PRIMARY KEY (cluster_id, kind, uid)
);
CREATE INDEX inventory_object_name ON inventory_object (cluster_id, kind, namespace, name);
CREATE INDEX inventory_object_uid ON inventory_object (cluster_id, uid);
CREATE INDEX inventory_object_workload ON inventory_object (cluster_id, workload) WHERE workload IS NOT NULL;
CREATE INDEX inventory_object_removed ON inventory_object (removed_at) WHERE removed_at IS NOT NULL;

-- Parts of snapshots, and changes that came before what they follow, until they can be applied.
CREATE TABLE inventory_pending (
  cluster_id text NOT NULL,
  epoch text NOT NULL,
  epoch_started_at timestamptz NOT NULL,
  generation bigint NOT NULL,
  sequence bigint NOT NULL,
  part integer NOT NULL,
  parts integer NOT NULL,
  event jsonb NOT NULL,
  stored_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (cluster_id, epoch, generation, sequence, part)
);
