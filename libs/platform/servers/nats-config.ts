import { chmod, mkdir, open, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createUser, fromSeed } from '@nats-io/nkeys';

/** A user of the platform's account: one of our services, or the launcher. Subjects may hold wildcards. */
export interface NatsPlatformUser {
  readonly name: string;
  /** Public nkey (`U…`). */
  readonly publicKey: string;
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
}

/** An agent: the only user of its cluster's account. */
export interface NatsAgent {
  readonly clusterId: string;
  readonly publicKey: string;
}

/** A subject, name or key that may not stand in a server configuration. */
export class NatsConfigError extends Error {
  override readonly name = 'NatsConfigError';
}

/** Prefix of the inboxes that a user of this name listens on; agents' are `agent_<cluster>`. */
export function inboxPrefix(name: string): string {
  return `_INBOX_${name}`;
}

/** The name under which an agent connects. */
export function agentUserName(clusterId: string): string {
  return `agent_${clusterId}`;
}

/**
 * The rights of a service's user, and nothing else: what it publishes (`publishes`: subjects), consumes (`consumes`: `STREAM/durable` as its
 * handlers name them, `STREAM/*` to tail a whole stream), asks (`asks`: services), and answers (its own queries, and `serves`: further subjects).
 * `commands`: may send into agents' accounts. `managesStreams`: may make and change streams.
 */
export function platformUser(options: {
  readonly name: string;
  readonly publicKey: string;
  readonly publishes?: readonly string[];
  readonly consumes?: readonly string[];
  readonly asks?: readonly string[];
  readonly serves?: readonly string[];
  readonly commands?: boolean;
  readonly managesStreams?: boolean;
}): NatsPlatformUser {
  const { name } = options;
  const publish = [
    '$JS.API.INFO', '$JS.API.STREAM.INFO.*', '$JS.API.DIRECT.GET.DLQ', '$JS.API.STREAM.MSG.DELETE.DLQ', `upid.dlq.${name}`,
    ...(options.publishes ?? []),
    ...(options.asks ?? []).map((service) => `upid.q.v1.${service}.>`),
    // Dead letters are handed back to the service that owns them, by its own queries.
    'upid.q.v1.*.dead-letters.replay',
  ];
  for (const each of options.consumes ?? []) {
    const [stream, durable] = each.split('/');
    if (!stream || !durable) throw new NatsConfigError(`${name} consumes ${JSON.stringify(each)}, which is not STREAM/durable`);
    // The oldest message that waits is read for the age of the lag.
    publish.push(`$JS.API.DIRECT.GET.${stream}`);
    if (durable === '*') publish.push(`$JS.API.CONSUMER.CREATE.${stream}`, `$JS.API.CONSUMER.CREATE.${stream}.>`, `$JS.API.CONSUMER.INFO.${stream}.*`, `$JS.API.CONSUMER.DELETE.${stream}.*`, `$JS.API.CONSUMER.MSG.NEXT.${stream}.*`);
    else {
      const consumer = `${name}-${durable}`;
      publish.push(
        `$JS.API.CONSUMER.DURABLE.CREATE.${stream}.${consumer}`, `$JS.API.CONSUMER.INFO.${stream}.${consumer}`,
        `$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`, `$JS.ACK.${stream}.${consumer}.>`,
      );
    }
  }
  if (options.commands) publish.push('upid.cmd.v1.*.>');
  if (options.managesStreams) publish.push('$JS.API.STREAM.CREATE.*', '$JS.API.STREAM.UPDATE.*');
  return { name, publicKey: options.publicKey, publish, subscribe: [`${inboxPrefix(name)}.>`, `upid.q.v1.${name}.>`, ...(options.serves ?? [])] };
}

const CLUSTER_ID = /^[a-z0-9][a-z0-9-]{0,62}$/;
const USER_KEY = /^U[A-Z2-7]{55}$/;
const SUBJECT = /^[$A-Za-z0-9_*>.-]+$/;

function list(subjects: readonly string[], owner: string): string {
  for (const subject of subjects) if (!SUBJECT.test(subject)) throw new NatsConfigError(`${JSON.stringify(subject)} of ${owner} is no subject`);
  return `[${subjects.map((subject) => JSON.stringify(subject)).join(', ')}]`;
}

function key(publicKey: string, owner: string): string {
  if (!USER_KEY.test(publicKey)) throw new NatsConfigError(`the key of ${owner} is no public user nkey`);
  return publicKey;
}

/**
 * The server's configuration: the platform's account, which owns JetStream, and one account for each agent. An agent's account imports
 * `upid.v1.<its cluster>.agent.>` as a service (its messages go in, acknowledgements come back, nothing else crosses) and exports its
 * command subjects to the platform alone. Render again and reload to add an agent; no restart.
 */
export function natsConfig(options: { readonly platformUsers: readonly NatsPlatformUser[]; readonly agents: readonly NatsAgent[] }): string {
  const ids = options.agents.map((agent) => agent.clusterId);
  for (const id of ids) if (!CLUSTER_ID.test(id)) throw new NatsConfigError(`${JSON.stringify(id)} is no cluster id`);
  if (new Set(ids).size !== ids.length) throw new NatsConfigError('two agents have the same cluster id');
  // A reply goes to whoever asked, and nowhere else: pages of an answer count too.
  const responses = 'allow_responses: { max: 4096, expires: "2m" }';
  const users = options.platformUsers.map((user) =>
    `      # ${user.name}\n      { nkey: ${key(user.publicKey, user.name)}, permissions: { publish: { allow: ${list(user.publish, user.name)} }, subscribe: { allow: ${list(user.subscribe, user.name)} }, ${responses} } }`);
  const account = (id: string) => `AGENT-${id}`;
  return `# Rendered by UPID; changes by hand are lost.
max_payload: 1MB
write_deadline: "10s"
jetstream { max_memory_store: 256MB, max_file_store: 64GB }
accounts {
  PLATFORM {
    jetstream: enabled
    users: [
${users.join('\n')}
    ]
    exports: [
${ids.map((id) => `      { service: "upid.v1.${id}.agent.>", accounts: ["${account(id)}"] }`).join('\n')}
    ]
    imports: [
${ids.map((id) => `      { service: { account: "${account(id)}", subject: "upid.cmd.v1.${id}.>" } }`).join('\n')}
    ]
  }
${options.agents.map((agent) => {
    const id = agent.clusterId;
    return `  "${account(id)}" {
    users: [
      { nkey: ${key(agent.publicKey, id)}, permissions: { publish: { allow: ["upid.v1.${id}.agent.>"] }, subscribe: { allow: ["upid.cmd.v1.${id}.>", "${inboxPrefix(agentUserName(id))}.>"] }, ${responses} } }
    ]
    exports: [ { service: "upid.cmd.v1.${id}.>", accounts: ["PLATFORM"], response_type: "stream" } ]
    imports: [ { service: { account: "PLATFORM", subject: "upid.v1.${id}.agent.>" } } ]
  }`;
  }).join('\n')}
}
`;
}

/** The user's nkey whose seed lies in `file`; made with mode 600 where there is none. */
export async function nkeyFile(file: string): Promise<{ readonly seed: string; readonly publicKey: string }> {
  await mkdir(dirname(file), { recursive: true });
  try {
    const made = createUser();
    const handle = await open(file, 'wx', 0o600);
    try {
      await handle.writeFile(made.getSeed());
    } finally {
      await handle.close();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    await chmod(file, 0o600);
  }
  const seed = (await readFile(file, 'utf8')).trim();
  return { seed, publicKey: fromSeed(new TextEncoder().encode(seed)).getPublicKey() };
}
