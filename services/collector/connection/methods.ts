/**
 * Ways to a cluster's API server, in the order they are tried, as decisions over what the environment and files hold. Reading
 * files and speaking to the server is the client's affair.
 */

/** What the agent was told of its cluster. */
export interface ConnectionSettings {
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
  readonly url?: string | undefined;
  readonly tokenFile?: string | undefined;
  readonly caFile?: string | undefined;
}

/** What Kubernetes tells a pod of the API server. */
export interface PodEnvironment {
  readonly host?: string | undefined;
  readonly port?: string | undefined;
}

export const SERVICE_ACCOUNT_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';

/** How to prove who we are. Files are read again before they can expire (bound tokens live an hour and are renewed on disk). */
export type Credential =
  | { readonly type: 'none' }
  | { readonly type: 'token'; readonly token: string }
  | { readonly type: 'token_file'; readonly file: string }
  | { readonly type: 'basic'; readonly username: string; readonly password: string }
  | { readonly type: 'exec'; readonly command: string; readonly args: readonly string[]; readonly env: Readonly<Record<string, string>>; readonly apiVersion: string };

/** A PEM text, or the file that holds it. */
export type Pem = { readonly text: string } | { readonly file: string };

/** One way to an API server, complete but untried. */
export interface AccessPlan {
  readonly method: MethodName;
  readonly server: string;
  readonly credential: Credential;
  readonly ca: Pem | null;
  readonly clientCertificate: Pem | null;
  readonly clientKey: Pem | null;
  readonly serverName: string | null;
  readonly insecure: boolean;
}

export type MethodName = 'in-cluster service account' | 'API URL with token and CA' | 'kubeconfig';

/** A method that was tried and why it did not serve. */
export interface FailedMethod {
  readonly method: MethodName;
  readonly reason: string;
}

/** No way led to a cluster; names every method tried and why it failed. */
export class ClusterConnectionError extends Error {
  override readonly name = 'ClusterConnectionError';
  constructor(readonly attempts: readonly FailedMethod[], options?: ErrorOptions) {
    super(`No cluster could be reached. ${attempts.map(({ method, reason }, index) => `(${index + 1}) ${method}: ${reason}`).join(' ')}`, options);
  }
}

/** Why a method cannot be tried; the sentence goes into {@link ClusterConnectionError}. */
export class MethodUnavailableError extends Error {
  override readonly name = 'MethodUnavailableError';
}

/** The service account of the pod we run in. @throws {MethodUnavailableError} outside a cluster */
export function inClusterPlan(environment: PodEnvironment, hasToken: boolean): AccessPlan {
  const { host, port = '443' } = environment;
  if (!host) throw new MethodUnavailableError('KUBERNETES_SERVICE_HOST is not set, so this is no pod of a cluster.');
  if (!hasToken) throw new MethodUnavailableError(`there is no token in ${SERVICE_ACCOUNT_FOLDER}.`);
  return {
    method: 'in-cluster service account',
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    credential: { type: 'token_file', file: `${SERVICE_ACCOUNT_FOLDER}/token` },
    ca: { file: `${SERVICE_ACCOUNT_FOLDER}/ca.crt` },
    clientCertificate: null, clientKey: null, serverName: null, insecure: false,
  };
}

/** An explicit API URL. @throws {MethodUnavailableError} where it or its token is missing, or it is no https URL */
export function explicitPlan(settings: ConnectionSettings): AccessPlan {
  const { url, tokenFile, caFile } = settings;
  if (!url) throw new MethodUnavailableError('UPID_KUBE_URL is not set.');
  if (!URL.canParse(url) || !['https:', 'http:'].includes(new URL(url).protocol)) throw new MethodUnavailableError(`UPID_KUBE_URL is ${JSON.stringify(url)}, which is no https URL.`);
  if (!tokenFile) throw new MethodUnavailableError('UPID_KUBE_URL is set but UPID_KUBE_TOKEN_FILE is not.');
  return {
    method: 'API URL with token and CA', server: url.replace(/\/+$/, ''), credential: { type: 'token_file', file: tokenFile }, ca: caFile ? { file: caFile } : null,
    clientCertificate: null, clientKey: null, serverName: null, insecure: false,
  };
}

type Named = Readonly<Record<string, unknown>>;
const record = (value: unknown): Named => (typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Named) : {});
const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined);
const entries = (value: unknown): Named[] => (Array.isArray(value) ? value.map(record) : []);

/**
 * A context of a kubeconfig (kubernetes.io/docs/reference/config-api/kubeconfig.v1): certificates and tokens inline or by file, basic
 * authentication, exec plugins. Relative file names are taken from the kubeconfig's folder.
 * @param config the parsed YAML
 * @param context the context's name; its current one where undefined
 * @param resolve makes a file name absolute
 * @param decode reads base64
 * @throws {MethodUnavailableError} where the context, its cluster or its user is missing, or its authentication is of a kind that is not served
 */
export function kubeconfigPlan(config: unknown, context: string | undefined, resolve: (file: string) => string, decode: (base64: string) => string): AccessPlan {
  const root = record(config);
  const contexts = entries(root['contexts']);
  const wanted = context ?? text(root['current-context']);
  if (wanted === undefined) throw new MethodUnavailableError('the kubeconfig names no current context; choose one with UPID_KUBE_CONTEXT.');
  const found = contexts.find((each) => each['name'] === wanted);
  if (!found) throw new MethodUnavailableError(`the kubeconfig has no context ${JSON.stringify(wanted)}; it has ${contexts.map((each) => JSON.stringify(each['name'])).join(', ') || 'none'}.`);
  const { cluster: clusterName, user: userName } = record(found['context']);
  const cluster = record(entries(root['clusters']).find((each) => each['name'] === clusterName)?.['cluster']);
  const server = text(cluster['server']);
  if (server === undefined) throw new MethodUnavailableError(`context ${JSON.stringify(wanted)} names cluster ${JSON.stringify(clusterName)}, which has no server.`);
  const user = record(entries(root['users']).find((each) => each['name'] === userName)?.['user']);
  const pem = (holder: Named, name: string): Pem | null => {
    const data = text(holder[`${name}-data`]);
    if (data !== undefined) return { text: decode(data) };
    const file = text(holder[name]);
    return file === undefined ? null : { file: resolve(file) };
  };
  return {
    method: 'kubeconfig', server: server.replace(/\/+$/, ''), credential: credentialOf(user, resolve), ca: pem(cluster, 'certificate-authority'), clientCertificate: pem(user, 'client-certificate'),
    clientKey: pem(user, 'client-key'), serverName: text(cluster['tls-server-name']) ?? null, insecure: cluster['insecure-skip-tls-verify'] === true,
  };
}

function credentialOf(user: Named, resolve: (file: string) => string): Credential {
  const tokenFile = text(user['tokenFile']);
  if (tokenFile !== undefined) return { type: 'token_file', file: resolve(tokenFile) };
  const token = text(user['token']);
  if (token !== undefined) return { type: 'token', token };
  const username = text(user['username']);
  if (username !== undefined) return { type: 'basic', username, password: text(user['password']) ?? '' };
  const exec = record(user['exec']);
  const command = text(exec['command']);
  if (command !== undefined) {
    const env = Object.fromEntries(entries(exec['env']).flatMap((each) => (text(each['name']) === undefined ? [] : [[text(each['name']) as string, text(each['value']) ?? '']])));
    const args = Array.isArray(exec['args']) ? exec['args'].filter((each): each is string => typeof each === 'string') : [];
    return { type: 'exec', command: command.includes('/') ? resolve(command) : command, args, env, apiVersion: text(exec['apiVersion']) ?? 'client.authentication.k8s.io/v1' };
  }
  const provider = text(record(user['auth-provider'])['name']);
  if (provider !== undefined) throw new MethodUnavailableError(`the user's authentication is the old auth-provider ${JSON.stringify(provider)}; use an exec plugin, a token or a certificate.`);
  return { type: 'none' };
}

/** The credential that an exec plugin printed (ExecCredential). @throws {MethodUnavailableError} where there is none in it */
export function execCredential(output: unknown): { token: string | null; certificate: string | null; key: string | null; expiresAtMs: number | null } {
  const status = record(record(output)['status']);
  const token = text(status['token']) ?? null;
  const certificate = text(status['clientCertificateData']) ?? null;
  const key = text(status['clientKeyData']) ?? null;
  if (token === null && certificate === null) throw new MethodUnavailableError('the exec plugin printed no ExecCredential with a token or certificate.');
  const expires = Date.parse(text(status['expirationTimestamp']) ?? '');
  return { token, certificate, key, expiresAtMs: Number.isNaN(expires) ? null : expires };
}
