/** The command lines of the control plane's processes, and the files they read. */
import { join } from 'node:path';

/** In the order in which they are started; ended in the reverse one. */
export const COMPONENTS = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kwok', 'metrics-server'] as const;
export type ComponentName = (typeof COMPONENTS)[number];

/** Nodes have addresses out of this network, which is routed nowhere (RFC 2544). */
export const NODE_NETWORK = '198.18.0.0/15';
export const KUBELET_PORT = 10_250;

/** Where everything of one control plane lies. */
export interface Layout {
  directory: string;
  ports: Record<'etcd' | 'etcdPeers' | 'apiServer' | 'kwok' | 'kubelets' | 'metricsServer', number>;
  /** Users of the static token file, by name. */
  tokens: Record<StaticUser, string>;
}

export const STATIC_USERS = {
  admin: ['system:masters'],
  'system:kube-controller-manager': [],
  'system:kube-scheduler': [],
  kwok: ['system:masters'],
  'metrics-server': ['system:masters'],
} as const;
export type StaticUser = keyof typeof STATIC_USERS;

/** What a caller may set of the components. */
export interface ComponentSettings {
  etcdArgs?: readonly string[];
  apiServerArgs?: readonly string[];
  controllerManagerArgs?: readonly string[];
  /** Seconds; default 40 as in Kubernetes. */
  nodeLeaseSeconds?: number;
  /** Seconds between two looks of metrics-server at the kubelets; default 15, at least 10. */
  metricResolutionSeconds?: number;
  /** Keeps a record of every request to the API server; see `ControlPlane.auditEvents`. Default no. */
  audit?: boolean;
}

const loopback = (port: number, scheme = 'http') => `${scheme}://127.0.0.1:${port}`;
export const pki = (layout: Layout, file: string) => join(layout.directory, 'pki', file);
export const auditLog = (layout: Layout) => join(layout.directory, 'audit.log');
export const kubeletSocket = (layout: Layout) => join(layout.directory, 'kubelets.sock');
/** The kubeconfig of a static user. */
export const kubeconfigOf = (layout: Layout, user: StaticUser) => join(layout.directory, `${user.replace('system:', '')}.kubeconfig`);

/** A kubeconfig that needs no other file. */
export function kubeconfig(server: string, caPem: string, user: string, token: string): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'upid-test', cluster: { server, 'certificate-authority-data': Buffer.from(caPem).toString('base64') } }],
    users: [{ name: user, user: { token } }],
    contexts: [{ name: 'upid-test', context: { cluster: 'upid-test', user } }],
    'current-context': 'upid-test',
  }, null, 2);
}

/** Files beside the keys that the API server and the scheduler read, by path. */
export function configurationFiles(layout: Layout): Record<string, string> {
  const { directory } = layout;
  return {
    [pki(layout, 'tokens.csv')]: Object.entries(STATIC_USERS)
      .map(([user, groups]) => `${layout.tokens[user as StaticUser]},${user},${user},"${groups.join(',')}"\n`).join(''),
    // Every connection to a node, a pod or a service goes through the kubelets' proxy.
    [join(directory, 'egress.yaml')]: JSON.stringify({
      apiVersion: 'apiserver.k8s.io/v1beta1', kind: 'EgressSelectorConfiguration',
      egressSelections: [{ name: 'cluster', connection: { proxyProtocol: 'HTTPConnect', transport: { uds: { udsName: kubeletSocket(layout) } } } }],
    }),
    [join(directory, 'audit.yaml')]: JSON.stringify({
      apiVersion: 'audit.k8s.io/v1', kind: 'Policy', omitStages: ['RequestReceived'], rules: [{ level: 'Metadata' }],
    }),
    [join(directory, 'scheduler.yaml')]: JSON.stringify({
      apiVersion: 'kubescheduler.config.k8s.io/v1', kind: 'KubeSchedulerConfiguration', leaderElection: { leaderElect: false }, enableProfiling: false,
      clientConnection: { kubeconfig: kubeconfigOf(layout, 'system:kube-scheduler'), qps: 1000, burst: 2000 },
    }),
  };
}

/** metrics-server as an aggregated API: a Service of type ExternalName needs no endpoints. */
export function metricsApi(layout: Layout): object[] {
  const service = { name: 'metrics-server', namespace: 'kube-system', port: layout.ports.metricsServer };
  return [
    {
      apiVersion: 'v1', kind: 'Service', metadata: { name: service.name, namespace: service.namespace },
      spec: { type: 'ExternalName', externalName: 'localhost', ports: [{ name: 'https', port: service.port, protocol: 'TCP' }] },
    },
    {
      apiVersion: 'apiregistration.k8s.io/v1', kind: 'APIService', metadata: { name: 'v1beta1.metrics.k8s.io' },
      spec: { group: 'metrics.k8s.io', version: 'v1beta1', groupPriorityMinimum: 100, versionPriority: 100, insecureSkipTLSVerify: true, service },
    },
  ];
}

/** The arguments of each component, its name first. */
export function commandLines(layout: Layout, settings: ComponentSettings): Record<ComponentName, { args: string[]; env?: Record<string, string> }> {
  const { directory, ports } = layout;
  const resolution = settings.metricResolutionSeconds ?? 15;
  const serving = ['--tls-cert-file', pki(layout, 'apiserver.crt'), '--tls-private-key-file', pki(layout, 'apiserver.key')];
  return {
    etcd: {
      args: [
        'etcd', '--name', 'test', '--data-dir', join(directory, 'etcd'), '--unsafe-no-fsync', '--log-level', 'warn', '--quota-backend-bytes', String(8 * 2 ** 30),
        '--listen-client-urls', loopback(ports.etcd), '--advertise-client-urls', loopback(ports.etcd),
        '--listen-peer-urls', loopback(ports.etcdPeers), '--initial-advertise-peer-urls', loopback(ports.etcdPeers),
        '--initial-cluster', `test=${loopback(ports.etcdPeers)}`, ...(settings.etcdArgs ?? []),
      ],
    },
    'kube-apiserver': {
      args: [
        'kube-apiserver', '--etcd-servers', loopback(ports.etcd), '--bind-address', '127.0.0.1', '--secure-port', String(ports.apiServer),
        '--advertise-address', '127.0.0.1', '--endpoint-reconciler-type', 'none', ...serving,
        '--client-ca-file', pki(layout, 'ca.crt'), '--token-auth-file', pki(layout, 'tokens.csv'), '--authorization-mode', 'RBAC', '--allow-privileged=true',
        '--service-account-issuer', 'https://kubernetes.default.svc', '--service-account-key-file', pki(layout, 'service-account.key'),
        '--service-account-signing-key-file', pki(layout, 'service-account.key'), '--service-cluster-ip-range', '10.96.0.0/16',
        '--kubelet-certificate-authority', pki(layout, 'ca.crt'), '--kubelet-client-certificate', pki(layout, 'kubelet-client.crt'),
        '--kubelet-client-key', pki(layout, 'kubelet-client.key'), '--kubelet-preferred-address-types', 'InternalIP',
        '--requestheader-client-ca-file', pki(layout, 'ca.crt'), '--requestheader-allowed-names', 'front-proxy-client',
        '--requestheader-username-headers', 'X-Remote-User', '--requestheader-group-headers', 'X-Remote-Group', '--requestheader-extra-headers-prefix', 'X-Remote-Extra-',
        '--proxy-client-cert-file', pki(layout, 'front-proxy.crt'), '--proxy-client-key-file', pki(layout, 'front-proxy.key'),
        '--egress-selector-config-file', join(directory, 'egress.yaml'),
        ...(settings.audit ? ['--audit-policy-file', join(directory, 'audit.yaml'), '--audit-log-path', auditLog(layout), '--audit-log-maxsize', '1000'] : []),
        // Without it a stop takes a minute while a watch is open.
        '--shutdown-watch-termination-grace-period', '1s', '--profiling=false', ...(settings.apiServerArgs ?? []),
      ],
    },
    'kube-controller-manager': {
      args: [
        'kube-controller-manager', '--kubeconfig', kubeconfigOf(layout, 'system:kube-controller-manager'), '--leader-elect=false', '--secure-port', '0',
        // Its own user may do very little.
        '--use-service-account-credentials=true', '--service-account-private-key-file', pki(layout, 'service-account.key'), '--root-ca-file', pki(layout, 'ca.crt'),
        // It would make a folder under the system's libexec otherwise.
        '--flex-volume-plugin-dir', join(directory, 'flex'), '--kube-api-qps', '500', '--kube-api-burst', '1000', '--profiling=false',
        ...(settings.controllerManagerArgs ?? []),
      ],
    },
    'kube-scheduler': { args: ['kube-scheduler', '--config', join(directory, 'scheduler.yaml'), '--secure-port', '0'] },
    kwok: {
      args: [
        'kwok', '--kubeconfig', kubeconfigOf(layout, 'kwok'), '--manage-all-nodes=true', '--cidr', '10.244.0.0/16', '--node-ip', '198.18.0.1', '--node-port', String(KUBELET_PORT),
        '--server-address', `127.0.0.1:${ports.kwok}`, '--node-lease-duration-seconds', String(settings.nodeLeaseSeconds ?? 40),
        '--enable-crds', 'Stage,Metric,Logs,ClusterLogs,ResourceUsage,ClusterResourceUsage,Exec,ClusterExec,Attach,ClusterAttach,PortForward,ClusterPortForward',
      ],
    },
    'metrics-server': {
      args: [
        'metrics-server', ...['--kubeconfig', '--authentication-kubeconfig', '--authorization-kubeconfig'].flatMap((flag) => [flag, kubeconfigOf(layout, 'metrics-server')]),
        '--bind-address', '127.0.0.1', '--secure-port', String(ports.metricsServer), ...serving,
        '--kubelet-certificate-authority', pki(layout, 'ca.crt'), '--kubelet-preferred-address-types', 'InternalIP', '--kubelet-use-node-status-port',
        '--metric-resolution', `${resolution}s`, '--kubelet-request-timeout', `${resolution / 2}s`,
      ],
      env: { HTTPS_PROXY: loopback(ports.kubelets), NO_PROXY: '127.0.0.1,localhost' },
    },
  };
}
