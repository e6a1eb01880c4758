import type { AccessLogEntry, Upstream } from './entry.js';

/** A Service as the cluster knows it. Ports are numbers or names. */
export interface KnownService {
  readonly namespace: string;
  readonly name: string;
  readonly ports: readonly { readonly name?: string | null; readonly port: number; readonly targetPort?: number | string | null }[];
}

/** A Service by namespace and name. */
export interface ServiceRef {
  readonly namespace: string;
  readonly name: string;
}

/**
 * What an upstream is found to be. `none`: the line names no upstream. `unknown`: no Service is called so. `ambiguous`: all of
 * `candidates` are called so and nothing tells them apart; whoever counts must then take none of them for idle.
 */
export type Resolution =
  | { readonly service: ServiceRef; readonly candidates: readonly ServiceRef[] }
  | { readonly service: null; readonly reason: 'none' | 'unknown' | 'ambiguous'; readonly candidates: readonly ServiceRef[] };

const NONE: Resolution = { service: null, reason: 'none', candidates: [] };
const UNKNOWN: Resolution = { service: null, reason: 'unknown', candidates: [] };

function found(service: ServiceRef): Resolution {
  return { service, candidates: [service] };
}

/** Names remembered; a proxy has few upstreams. */
const REMEMBERED_NAMES = 8_192;

/**
 * Resolves upstreams of one state of the cluster's Services: build anew when they change. ingress-nginx writes
 * `namespace-service-port` and all three may hold dashes, so `a-b-c-80` is `c` in `a-b` or `b-c` in `a`: only the set of Services
 * tells. Constant memory on top of the Services.
 */
export class ServiceIndex {
  /** `namespace/name` of every Service. */
  private readonly known = new Map<string, KnownService>();
  /** Joined spellings of proxies, with the Services that are spelled so. */
  private readonly spellings = new Map<string, KnownService[]>();
  private readonly remembered = new Map<string, Resolution>();

  constructor(services: Iterable<KnownService>) {
    for (const service of services) {
      this.known.set(`${service.namespace}/${service.name}`, service);
      const { namespace, name } = service;
      for (const port of portsOf(service)) {
        // ingress-nginx; Traefik's Kubernetes providers; HAProxy's controllers.
        this.spell(`${namespace}-${name}-${port}`, service);
        this.spell(`${namespace}_${name}_${port}`, service);
        // Kong: service names `namespace.name.port`.
        this.spell(`${namespace}.${name}.${port}`, service);
      }
      this.spell(`${namespace}-${name}`, service);
      this.spell(`${namespace}_${name}`, service);
      this.spell(`${namespace}.${name}`, service);
    }
  }

  private spell(name: string, service: KnownService): void {
    const same = this.spellings.get(name);
    if (same === undefined) this.spellings.set(name, [service]);
    else if (!same.includes(service)) same.push(service);
  }

  /** The Service that a request went to, or why it is not known. */
  resolve(upstream: Upstream | null): Resolution {
    if (upstream === null) return NONE;
    if (upstream.namespace !== null && upstream.service !== null) return this.exact(upstream.namespace, upstream.service);
    const name = upstream.alternativeName ?? upstream.name;
    if (name === null) return UNKNOWN;
    let resolution = this.remembered.get(name);
    if (resolution === undefined) {
      resolution = this.byName(name);
      if (this.remembered.size >= REMEMBERED_NAMES) this.remembered.clear();
      this.remembered.set(name, resolution);
    }
    return resolution;
  }

  private exact(namespace: string, name: string): Resolution {
    return this.known.has(`${namespace}/${name}`) ? found({ namespace, name }) : UNKNOWN;
  }

  private byName(name: string): Resolution {
    const fqdn = clusterDomainName(name);
    if (fqdn !== null) return this.exact(fqdn.namespace, fqdn.name);
    // Traefik marks whose name it is: `default-web-80@kubernetes`.
    const at = name.lastIndexOf('@');
    const bare = at > 0 ? name.slice(0, at) : name;
    const candidates = (this.spellings.get(bare) ?? []).map(({ namespace, name: service }) => ({ namespace, name: service }));
    const [only] = candidates;
    if (only === undefined) return UNKNOWN;
    return candidates.length === 1 ? found(only) : { service: null, reason: 'ambiguous', candidates };
  }
}

function portsOf(service: KnownService): Set<string> {
  const ports = new Set<string>();
  for (const { name, port, targetPort } of service.ports) {
    ports.add(String(port));
    if (name != null && name !== '') ports.add(name);
    if (targetPort != null) ports.add(String(targetPort));
  }
  return ports;
}

const CLUSTER_DOMAIN = /^([a-z0-9]([-a-z0-9]*[a-z0-9])?)\.([a-z0-9]([-a-z0-9]*[a-z0-9])?)\.svc(\.|$)/;

/** Service and namespace of `web.default.svc.cluster.local` or of Envoy's cluster name `outbound|80|subset|web.default.svc.cluster.local`. */
export function clusterDomainName(name: string): ServiceRef | null {
  const host = name.slice(name.lastIndexOf('|') + 1);
  const match = CLUSTER_DOMAIN.exec(host);
  return match?.[1] === undefined || match[3] === undefined ? null : { namespace: match[3], name: match[1] };
}

/** Who wrote a log line: a proxy at the edge, or a workload's own sidecar. */
export type LogRole = 'edge' | 'sidecar';

/**
 * Whether an entry is to be counted. In a mesh both sidecars log a request: the inbound one counts. An outbound line counts only where
 * no inbound side can have logged it, because the request reached no endpoint (that is how a sleeping workload's request shows), or
 * where the proxy at the edge sent it to a workload without sidecar.
 * @param reachesSidecar whether the workload behind the upstream has a sidecar whose log is read too
 */
export function countsHere(entry: AccessLogEntry, role: LogRole, reachesSidecar: boolean): boolean {
  if (entry.direction !== 'outbound') return true;
  if (entry.upstream?.address == null) return true;
  return role === 'edge' && !reachesSidecar;
}
