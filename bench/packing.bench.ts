import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { amountsOf, offersOf, type InstanceType } from '@upid/optimizer/recommendations/nodes/catalogue';
import { HOSTNAME, ZONE, type NodeOffer, type Pod } from '@upid/optimizer/recommendations/nodes/model';
import { faultsOf, planNodes } from '@upid/optimizer/recommendations/nodes/plan';
import type { Benchmark, Figures } from './benchmark.js';

const MEBIBYTE = 2 ** 20;

/** The same numbers every time (Numerical Recipes' linear congruential generator). */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

interface Case {
  readonly name: string;
  readonly homogeneous?: boolean;
  readonly pods: readonly Pod[];
  readonly daemonSets?: readonly Pod[];
}

function fleet(name: string, count: number, of: (i: number) => Partial<Pod> & Pick<Pod, 'requests'>): Pod[] {
  return Array.from({ length: count }, (_, i) => ({ id: `${name}-${i}`, namespace: name, labels: { app: name }, ...of(i) }));
}

interface Manifest {
  readonly kind?: string;
  readonly metadata?: { readonly name?: string };
  readonly spec?: { readonly replicas?: number; readonly template?: { readonly spec?: { readonly containers?: readonly { readonly resources?: { readonly requests?: Record<string, string | number> } }[] } } };
}

/** Every Deployment and StatefulSet of the manifests that asks for something, `times` over. */
async function fromManifests(data: string, times: number): Promise<Pod[]> {
  const pods: Pod[] = [];
  for (const file of (await readdir(join(data, 'manifests'))).filter((name) => name.endsWith('.yaml')).sort()) {
    for (const document of parseAllDocuments(await readFile(join(data, 'manifests', file), 'utf8'))) {
      const manifest = document.toJS() as Manifest | null;
      if (!manifest || !['Deployment', 'StatefulSet'].includes(manifest.kind ?? '')) continue;
      const requests: Record<string, number> = {};
      for (const container of manifest.spec?.template?.spec?.containers ?? []) {
        for (const [resource, amount] of Object.entries(amountsOf(container.resources?.requests ?? {}))) requests[resource] = (requests[resource] ?? 0) + amount;
      }
      if (Object.keys(requests).length === 0) continue;
      for (let i = 0; i < times * (manifest.spec?.replicas ?? 1); i++) pods.push({ id: `${file}-${manifest.metadata?.name}-${i}`, namespace: file, labels: { app: manifest.metadata?.name ?? '' }, requests });
    }
  }
  return pods;
}

function cases(fromFiles: readonly Pod[]): Case[] {
  const random = generator(20_250_303);
  const between = (low: number, high: number) => low * Math.exp(random() * Math.log(high / low));
  const alike = (name: string, count: number, cpu: number, mebibytes: number, more: Partial<Pod> = {}, daemonSets?: Pod[]): Case =>
    ({ name, homogeneous: true, daemonSets, pods: fleet(name, count, () => ({ requests: { cpu, memory: mebibytes * MEBIBYTE }, ...more })) });
  const agents: Pod[] = [
    { id: 'agent', requests: { cpu: 100, memory: 200 * MEBIBYTE }, architectures: ['amd64', 'arm64'] },
    { id: 'proxy', requests: { cpu: 50, memory: 100 * MEBIBYTE }, architectures: ['amd64', 'arm64'], operatingSystems: ['linux', 'windows'], tolerations: [{ operator: 'Exists' }] },
  ];
  const any = (count: number) => fleet(`any-${count}`, count, () => ({ requests: { cpu: Math.round(between(20, 4000)), memory: Math.round(between(32, 16_000)) * MEBIBYTE } }));
  const shapes = Array.from({ length: 12 }, () => ({ cpu: 10 * Math.round(between(3, 400)), memory: 16 * Math.round(between(4, 1000)) * MEBIBYTE }));
  const shaped = (count: number) => fleet(`shaped-${count}`, count, () => ({ requests: shapes[Math.floor(random() ** 2 * shapes.length)] ?? { cpu: 100 } }));
  const mixed = fleet('mixed', 3000, (i) => {
    const app = `app-${Math.floor(i / 6)}`;
    const selector = { matchLabels: { app } };
    return {
      labels: { app }, requests: shapes[i % shapes.length] ?? { cpu: 100 },
      architectures: random() < 0.2 ? ['arm64'] : random() < 0.5 ? ['amd64', 'arm64'] : ['amd64'], operatingSystems: random() < 0.05 ? ['windows'] : ['linux'],
      ...(random() < 0.3 ? { antiAffinity: [{ topologyKey: HOSTNAME, selector }] } : {}), ...(i % 60 < 12 ? { spread: [{ topologyKey: ZONE, maxSkew: 1, selector }] } : {}),
      ...(random() < 0.05 ? { zones: ['test-zone-b'] } : {}),
    };
  });
  return [
    alike('like-100', 100, 500, 1024), alike('like-1000', 1000, 300, 700), alike('like-50', 50, 1000, 3072), alike('like-10000', 10_000, 100, 200), alike('like-large', 40, 7000, 20_000),
    alike('like-tiny', 500, 10, 32), alike('like-daemons', 1000, 300, 700, {}, agents),
    alike('like-zones', 200, 500, 1024, { spread: [{ topologyKey: ZONE, maxSkew: 1, selector: { matchLabels: { app: 'like-zones' } } }] }),
    alike('like-apart', 20, 500, 1024, { antiAffinity: [{ topologyKey: HOSTNAME, selector: { matchLabels: { app: 'like-apart' } } }] }),
    { name: 'manifests', pods: fromFiles }, { name: 'manifests-daemons', pods: fromFiles, daemonSets: agents },
    { name: 'shaped-300', pods: shaped(300) }, { name: 'any-200', pods: any(200) }, { name: 'any-2000', pods: any(2000), daemonSets: agents }, { name: 'mixed-3000', pods: mixed, daemonSets: agents },
    { name: 'shaped-10000', pods: shaped(10_000) }, { name: 'any-10000', pods: any(10_000) },
  ];
}

/** The judge of plans on a plan that breaks rules, and a node for every pod as the method that knows nothing. */
function checkJudge(offers: readonly NodeOffer[]): void {
  const pods = fleet('check', 3, () => ({ requests: { cpu: 600, memory: MEBIBYTE } }));
  const small = offers.find(({ type, capacityType }) => type === 'c-1x-amd64-linux' && capacityType === 'on-demand');
  if (!small) throw new Error('the catalogue has no c-1x-amd64-linux');
  const plan = (podIds: string[][]) => ({ nodes: podIds.map((ids) => ({ offer: small, podIds: ids })), unplaced: [], costPerHour: 0, bound: { costPerHour: 0, proof: 'none' as const, simplestCostPerHour: 0 }, firstFitDecreasingCostPerHour: 0 });
  const ids = pods.map(({ id }) => [id]);
  if (faultsOf(plan(ids), pods).length > 0) throw new Error('the judge refuses a node for every pod');
  if (faultsOf(plan([ids.flat()]), pods).length === 0) throw new Error('the judge takes three pods of 600 millicores on one core');
  if (faultsOf(plan(ids.slice(1)), pods).length === 0) throw new Error('the judge does not miss a pod');
  if (planNodes(pods, offers).costPerHour > 3 * small.pricePerHour + 1e-9) throw new Error('a node for every pod is cheaper');
}

export const benchmark: Benchmark = {
  name: 'packing',
  summary: 'pods packed on 144 node types: cost against first-fit decreasing and against what no packing can beat',
  floors: {
    cost_ratio_to_first_fit_decreasing: { max: 1 }, mean_cost_ratio_to_first_fit_decreasing: { max: 0.975 },
    cost_ratio_to_bound: { max: 1.0001 }, mixed_cost_ratio_to_bound: { max: 1.02 }, faults: { max: 0 }, unplaced: { max: 0 },
  },
  async run({ log, args }): Promise<Figures> {
    const data = args[0] ?? join(import.meta.dirname, '../../testdata');
    const offers = offersOf(JSON.parse(await readFile(join(data, 'packing', 'kwok-instance-types.json'), 'utf8')) as InstanceType[]);
    checkJudge(offers);
    let faults = 0;
    let unplaced = 0;
    let seconds10000 = 0;
    let toBound = 0;
    let mixedToBound = 0;
    const toFirstFit: number[] = [];
    log(`${'case'.padEnd(20)}  pods  nodes       cost  /first-fit  /bound  proof        seconds`);
    for (const { name, pods, daemonSets, homogeneous } of cases(await fromManifests(data, 30))) {
      const started = performance.now();
      const plan = planNodes(pods, offers, { daemonSets });
      const seconds = (performance.now() - started) / 1000;
      const wrong = faultsOf(plan, pods, daemonSets);
      wrong.slice(0, 3).forEach((fault) => log(`FAULT ${name}: ${fault}`));
      faults += wrong.length;
      unplaced += plan.unplaced.length;
      const ratio = plan.costPerHour / plan.firstFitDecreasingCostPerHour;
      const bound = plan.costPerHour / plan.bound.costPerHour;
      toFirstFit.push(ratio);
      if (homogeneous) toBound = Math.max(toBound, bound);
      else mixedToBound = Math.max(mixedToBound, bound);
      if (pods.length >= 10_000) seconds10000 = Math.max(seconds10000, seconds);
      log(`${name.padEnd(20)} ${String(pods.length).padStart(5)} ${String(plan.nodes.length).padStart(6)} ${plan.costPerHour.toFixed(4).padStart(10)} ${ratio.toFixed(4).padStart(11)} ${bound.toFixed(4).padStart(7)}  ${plan.bound.proof.padEnd(12)} ${seconds.toFixed(2).padStart(7)}`);
    }
    return {
      cost_ratio_to_first_fit_decreasing: Math.max(...toFirstFit), mean_cost_ratio_to_first_fit_decreasing: toFirstFit.reduce((sum, ratio) => sum + ratio, 0) / toFirstFit.length,
      cost_ratio_to_bound: toBound, mixed_cost_ratio_to_bound: mixedToBound, seconds_10000_pods: seconds10000, cases: toFirstFit.length, faults, unplaced,
    };
  },
};
