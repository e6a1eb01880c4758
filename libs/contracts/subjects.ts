import { clusterIdSchema, type ClusterId } from './ids.js';

/** Facts that an agent publishes; `heartbeat` is a plain request, kept by no stream. */
export const AGENT_KINDS = ['usage', 'requests', 'inventory', 'business', 'coverage', 'result', 'heartbeat'] as const;
export type AgentKind = (typeof AGENT_KINDS)[number];

/** Facts of each service. */
export const SERVICE_KINDS = {
  intelligence: ['rollup', 'assessment'],
  cost: ['allocation'],
  optimizer: ['job'],
} as const;

export const SERVICES = ['intelligence', 'cost', 'optimizer', 'gateway'] as const;
export type ServiceName = (typeof SERVICES)[number];

/**
 * Every subject on the bus. `<cluster>` is the cluster's id, or `*` to listen to all.
 * Facts: `upid.v1.<cluster>.<producer>.<kind>`; the public topic: `upid.v1.<cluster>.recommendation.<type>`;
 * questions: `upid.q.v1.<service>.<name>`; commands into an agent's account: `upid.cmd.v1.<cluster>.<verb>`;
 * dead letters: `upid.dlq.<service>`.
 */
export const subjects = {
  agent: (cluster: ClusterId | '*', kind: AgentKind) => `upid.v1.${cluster}.agent.${kind}`,
  agentAll: (cluster: ClusterId | '*') => `upid.v1.${cluster}.agent.>`,
  rollup: (cluster: ClusterId | '*') => `upid.v1.${cluster}.intelligence.rollup`,
  assessment: (cluster: ClusterId | '*') => `upid.v1.${cluster}.intelligence.assessment`,
  allocation: (cluster: ClusterId | '*') => `upid.v1.${cluster}.cost.allocation`,
  job: (cluster: ClusterId | '*') => `upid.v1.${cluster}.optimizer.job`,
  recommendation: (cluster: ClusterId | '*', type: string) => `upid.v1.${cluster}.recommendation.${type}`,
  recommendationAll: (cluster: ClusterId | '*') => `upid.v1.${cluster}.recommendation.>`,
  query: (service: ServiceName, name: string) => `upid.q.v1.${service}.${name}`,
  /** A command to the agent, answered with a {@link CommandReceipt}; `snapshot` asks for a full inventory. */
  command: (cluster: ClusterId, verb: 'execute' | 'snapshot') => `upid.cmd.v1.${cluster}.${verb}`,
  commandAll: (cluster: ClusterId | '*') => `upid.cmd.v1.${cluster}.>`,
  deadLetter: (service: ServiceName) => `upid.dlq.${service}`,
} as const;

/** A subject that is none of ours, or names no valid cluster. */
export class UnknownSubjectError extends Error {
  override readonly name = 'UnknownSubjectError';
  constructor(subject: string) {
    super(`${JSON.stringify(subject)} is no subject of the form upid.v1.<cluster>.<producer>.<kind>`);
  }
}

/** Which cluster, producer and kind a fact's subject names; the cluster is taken from here, never from the payload. */
export function parseSubject(subject: string): { clusterId: ClusterId; producer: string; kind: string } {
  const [root, version, cluster, producer, ...rest] = subject.split('.');
  const clusterId = clusterIdSchema.safeParse(cluster);
  if (root !== 'upid' || version !== 'v1' || !clusterId.success || !producer || rest.length !== 1 || !rest[0]) throw new UnknownSubjectError(subject);
  return { clusterId: clusterId.data, producer, kind: rest[0] };
}

/** Headers beside the payload. */
export const HEADERS = {
  /** JetStream drops a second message with this id inside its window. On the wire it is a digest keyed with the publisher's own seed: an id that another could foretell, another could take first. */
  messageId: 'Nats-Msg-Id',
  /** The deterministic id in clear. */
  messageName: 'Upid-Message-Id',
  /** When the publisher sent it first, RFC 3339: skew is judged from this against the server's receive time. */
  publishedAt: 'Upid-Published-At',
  /** W3C trace context. */
  traceparent: 'traceparent',
  correlationId: 'Upid-Correlation-Id',
} as const;
