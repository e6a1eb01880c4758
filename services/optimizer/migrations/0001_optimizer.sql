-- Up Migration
-- Jobs and what they send to clusters; recommendations; the latest word of each agent. Bodies are contracts' JSON.
CREATE TABLE job (
  id uuid PRIMARY KEY,
  cluster_id text NOT NULL,
  target_key text NOT NULL,
  optimization_type text NOT NULL,
  status text NOT NULL,
  applied boolean NOT NULL,
  dry_run boolean NOT NULL,
  body jsonb NOT NULL,
  options jsonb NOT NULL DEFAULT '{}',
  revision integer NOT NULL,
  -- When the worker looks at it next; null once it waits for the agent or has ended.
  due_at timestamptz,
  idempotency_key text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX job_due ON job (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX job_recent ON job (cluster_id, created_at DESC);
CREATE INDEX job_applied ON job (cluster_id) WHERE applied;
-- One job at a time works on a target.
CREATE UNIQUE INDEX job_active_target ON job (cluster_id, target_key)
  WHERE NOT dry_run AND status IN ('pending', 'validating', 'planned', 'executing', 'watching', 'rolling_back');
CREATE UNIQUE INDEX job_idempotency ON job (cluster_id, target_key, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- Fences rise for ever: a command with a lower one than the agent has seen for a target is refused.
CREATE SEQUENCE command_fence;

CREATE TABLE command (
  id uuid PRIMARY KEY,
  cluster_id text NOT NULL,
  job_id uuid NOT NULL REFERENCES job (id),
  verb text NOT NULL,
  body jsonb NOT NULL,
  -- waiting: to be sent, or sent without a receipt; taken: the agent has it; ended: a result has come, or it expired unsent.
  state text NOT NULL DEFAULT 'waiting',
  expires_at timestamptz NOT NULL,
  next_send_at timestamptz NOT NULL DEFAULT now(),
  sends integer NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX command_waiting ON command (next_send_at) WHERE state <> 'ended';
CREATE INDEX command_cluster ON command (cluster_id) WHERE state <> 'ended';

CREATE TABLE command_result (
  command_id uuid NOT NULL,
  outcome text NOT NULL,
  cluster_id text NOT NULL,
  job_id uuid NOT NULL,
  body jsonb NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (command_id, outcome)
);

CREATE TABLE agent (
  cluster_id text PRIMARY KEY,
  fingerprint uuid NOT NULL,
  heartbeat jsonb NOT NULL,
  seen_at timestamptz NOT NULL
);

-- A row holds every action of its cluster; '*' holds those of all.
CREATE TABLE hold (
  cluster_id text PRIMARY KEY,
  actor text NOT NULL,
  since timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE assessment (
  cluster_id text NOT NULL,
  workload_key text NOT NULL,
  revision bigint NOT NULL,
  assessed_at timestamptz NOT NULL,
  window_start timestamptz NOT NULL,
  window_end timestamptz NOT NULL,
  body jsonb NOT NULL,
  PRIMARY KEY (cluster_id, workload_key)
);

CREATE TABLE recommendation (
  id uuid PRIMARY KEY,
  cluster_id text NOT NULL,
  type text NOT NULL,
  workload_key text,
  confidence double precision NOT NULL,
  revision integer NOT NULL,
  body jsonb NOT NULL,
  lapsed_at timestamptz,
  updated_at timestamptz NOT NULL
);
CREATE INDEX recommendation_standing ON recommendation (cluster_id) WHERE lapsed_at IS NULL;

CREATE TABLE evaluation (
  cluster_id text PRIMARY KEY,
  evaluated_at timestamptz NOT NULL
);
