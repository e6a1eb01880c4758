import { distributionOfCluster, mostCommon, type Distribution } from './distribution.js';
import type { Fact, NodeFacts } from './node.js';
import type { Provider } from './provider.js';

/** What the cluster is: two facts apart (OpenShift on AWS is both), and where most of it stands. */
export interface ClusterFacts {
  readonly provider: Fact<Provider>;
  readonly distribution: Fact<Distribution>;
  readonly region: string | null;
}

/**
 * The facts of a cluster out of its nodes, the API server's version (`gitVersion`) and the names of its API groups. Nodes whose provider
 * is unknown do not outvote those whose is known.
 */
export function recogniseCluster(nodes: readonly NodeFacts[], serverVersion: string | null, apiGroups: readonly string[]): ClusterFacts {
  const known = nodes.filter(({ provider }) => provider.value !== 'unknown');
  const provider = mostCommon((known.length > 0 ? known : nodes).map((node) => node.provider)) ?? { value: 'unknown', evidence: 'the cluster has no nodes' };
  const region = mostCommon(nodes.flatMap((node) => (node.region === null ? [] : [{ value: node.region, evidence: '' }])))?.value ?? null;
  return { provider, distribution: distributionOfCluster(serverVersion, apiGroups, nodes.map((node) => node.distribution)), region };
}
