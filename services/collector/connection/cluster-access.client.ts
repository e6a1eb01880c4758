import { execFile } from 'node:child_process';
import { access, readFile } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { promisify } from 'node:util';
import {
  ClusterConnectionError, execCredential, explicitPlan, inClusterPlan, kubeconfigPlan, MethodUnavailableError, SERVICE_ACCOUNT_FOLDER, type AccessPlan, type ConnectionSettings, type FailedMethod, type MethodName,
  type Pem,
} from './methods.js';

/** What a connection to the API server needs: TLS options and, for each request, a fresh `authorization` header. */
export interface ClusterAccess {
  readonly method: MethodName;
  readonly server: string;
  readonly tls: { readonly ca?: string; readonly cert?: string; readonly key?: string; readonly servername?: string; readonly rejectUnauthorized: boolean };
  /** null where a client certificate (or nothing) proves who we are. @throws {MethodUnavailableError} where no credential can be had now */
  authorization(): Promise<string | null>;
}

/** Token files and exec plugins are asked again after this long: bound tokens are renewed on disk well before they expire. */
const CREDENTIAL_AGE_MS = 60_000;
const EXEC_TIMEOUT_MS = 30_000;

/**
 * Tries the ways to a cluster in their order (in-cluster, explicit URL, kubeconfig); the first whose server `probe` reaches is taken.
 * @param probe speaks to the server; what it throws is the method's reason
 * @throws {ClusterConnectionError} naming every method tried and why it failed
 */
export async function connectCluster<T>(settings: ConnectionSettings, env: NodeJS.ProcessEnv, probe: (access: ClusterAccess) => Promise<T>): Promise<{ access: ClusterAccess; probed: T }> {
  const plans: readonly (readonly [MethodName, () => Promise<AccessPlan>])[] = [
    ['in-cluster service account', async () => inClusterPlan({ host: env['KUBERNETES_SERVICE_HOST'], port: env['KUBERNETES_SERVICE_PORT_HTTPS'] ?? env['KUBERNETES_SERVICE_PORT'] }, await exists(join(SERVICE_ACCOUNT_FOLDER, 'token')))],
    ['API URL with token and CA', async () => explicitPlan(settings)],
    ['kubeconfig', () => readKubeconfig(settings)],
  ];
  const attempts: FailedMethod[] = [];
  const causes: unknown[] = [];
  for (const [method, plan] of plans) {
    try {
      const cluster = await openAccess(await plan());
      return { access: cluster, probed: await probe(cluster) };
    } catch (error) {
      attempts.push({ method, reason: error instanceof Error ? error.message : String(error) });
      causes.push(error);
    }
  }
  throw new ClusterConnectionError(attempts, { cause: causes.at(-1) });
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(() => true, () => false);
}

async function readKubeconfig(settings: ConnectionSettings): Promise<AccessPlan> {
  const { kubeconfig, context } = settings;
  // The kubeconfig of whoever starts us is never taken by itself: an agent attaches to what it was told.
  if (!kubeconfig) throw new MethodUnavailableError('UPID_KUBECONFIG is not set.');
  const { parse } = await import('yaml');
  const source = await readText(kubeconfig);
  let config: unknown;
  try {
    config = parse(source);
  } catch (cause) {
    throw new MethodUnavailableError(`${kubeconfig} is no YAML.`, { cause });
  }
  return kubeconfigPlan(config, context, (file) => (isAbsolute(file) ? file : join(dirname(kubeconfig), file)), (base64) => Buffer.from(base64, 'base64').toString('utf8'));
}

async function readText(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new MethodUnavailableError(`${file} cannot be read (${cause.code ?? cause.message}).`, { cause });
  });
}

async function readPem(pem: Pem | null): Promise<string | undefined> {
  if (pem === null) return undefined;
  return 'text' in pem ? pem.text : readText(pem.file);
}

/** Reads the plan's certificates and makes sure that its credential can be had. */
async function openAccess(plan: AccessPlan): Promise<ClusterAccess> {
  const { credential } = plan;
  const fromExec = credential.type === 'exec' ? await runPlugin(credential) : null;
  const cluster: ClusterAccess = {
    method: plan.method,
    server: plan.server,
    tls: {
      ca: await readPem(plan.ca), cert: fromExec?.certificate ?? (await readPem(plan.clientCertificate)), key: fromExec?.key ?? (await readPem(plan.clientKey)),
      ...(plan.serverName === null ? {} : { servername: plan.serverName }), rejectUnauthorized: !plan.insecure,
    },
    authorization: authorizer(credential),
  };
  await cluster.authorization();
  return cluster;
}

function authorizer(credential: AccessPlan['credential']): () => Promise<string | null> {
  switch (credential.type) {
    case 'none':
      return async () => null;
    case 'token':
      return async () => `Bearer ${credential.token}`;
    case 'basic':
      return async () => `Basic ${Buffer.from(`${credential.username}:${credential.password}`).toString('base64')}`;
    case 'token_file':
      return kept(async () => {
        const token = (await readText(credential.file)).trim();
        if (token === '') throw new MethodUnavailableError(`${credential.file} is empty.`);
        return { value: `Bearer ${token}`, untilMs: Date.now() + CREDENTIAL_AGE_MS };
      });
    case 'exec':
      return kept(async () => {
        const { token, expiresAtMs } = await runPlugin(credential);
        return { value: token === null ? null : `Bearer ${token}`, untilMs: Math.min(expiresAtMs ?? Infinity, Date.now() + 15 * CREDENTIAL_AGE_MS) };
      });
  }
}

/** Asks again only when what is known has run out; askers at the same time share one answer. */
function kept(ask: () => Promise<{ value: string | null; untilMs: number }>): () => Promise<string | null> {
  let known: { value: string | null; untilMs: number } | undefined;
  let asking: Promise<{ value: string | null; untilMs: number }> | undefined;
  return async () => {
    if (known !== undefined && Date.now() < known.untilMs) return known.value;
    asking ??= ask().finally(() => { asking = undefined; });
    known = await asking;
    return known.value;
  };
}

async function runPlugin(credential: Extract<AccessPlan['credential'], { type: 'exec' }>): ReturnType<typeof askPlugin> {
  return askPlugin(credential).catch((cause: unknown) => {
    if (cause instanceof MethodUnavailableError) throw cause;
    throw new MethodUnavailableError(`the exec plugin ${credential.command} failed (${cause instanceof Error ? cause.message.split('\n')[0] : String(cause)}).`, { cause });
  });
}

async function askPlugin(credential: Extract<AccessPlan['credential'], { type: 'exec' }>): Promise<ReturnType<typeof execCredential>> {
  const info = JSON.stringify({ apiVersion: credential.apiVersion, kind: 'ExecCredential', spec: { interactive: false } });
  const { stdout } = await promisify(execFile)(credential.command, [...credential.args], { timeout: EXEC_TIMEOUT_MS, env: { ...process.env, ...credential.env, KUBERNETES_EXEC_INFO: info } });
  return execCredential(JSON.parse(stdout));
}
