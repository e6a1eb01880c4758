import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createLogger, createMetrics, Health, loadConfig, serveHealth } from '@upid/platform';
import { TestPrometheus } from '@upid/testing';
import { AccessLog } from './access-log.js';
import { KubernetesApi } from './api.js';
import { clockFrom } from './clock.js';
import { SimulatedCluster, type ClusterState } from './cluster.js';
import { Figures } from './figures.js';
import { historySeries } from './history.js';
import { parseScenario } from './scenario.js';
import { simulatorSettings } from './settings.js';

// Runs a demo cluster: a Kubernetes API, a Prometheus range API, and a kubeconfig that leads to them.
const TICK_MS = 200;

const config = loadConfig(simulatorSettings);
const log = createLogger('simulator');
const scenario = parseScenario(await readFile(config.scenario, 'utf8'));
const stateFile = join(config.dir, `${scenario.name}-${scenario.seed}.json`);
const saved = await readFile(stateFile, 'utf8').then((text) => JSON.parse(text) as ClusterState, (error: NodeJS.ErrnoException) => {
  if (error.code === 'ENOENT') return null;
  throw error;
});
const wallMs = Date.now();
const nowMs = clockFrom({ startMs: wallMs - scenario.clock.start_hours_ago * 3_600_000, startedAtWallMs: wallMs, speed: scenario.clock.speed }, Date.now);
const cluster = new SimulatedCluster(scenario, saved, nowMs);
const figures = new Figures(cluster);
const accessLog = new AccessLog(cluster);

// What clients change outlives a crash: written at once, one write after the other.
let writing = Promise.resolve();
const save = () => {
  const text = JSON.stringify(cluster.state());
  writing = writing.then(async () => {
    await writeFile(`${stateFile}.new`, text);
    await rename(`${stateFile}.new`, stateFile);
  }).catch((error: unknown) => log.error({ err: error }, 'the state of the simulated cluster could not be kept'));
};
cluster.whenChanged(save);
save();

const api = new KubernetesApi(cluster, figures, accessLog);
const port = await api.listen(config.port, config.host);
const prometheus = new TestPrometheus({ series: historySeries(cluster, figures) });
await prometheus.listen(config.prometheusPort, config.host);
await writeFile(join(config.dir, 'kubeconfig'), JSON.stringify({
  apiVersion: 'v1', kind: 'Config', 'current-context': scenario.name, clusters: [{ name: scenario.name, cluster: { server: config.url ?? `http://127.0.0.1:${port}` } }], users: [{ name: 'simulated', user: { token: 'simulated' } }], contexts: [{ name: scenario.name, context: { cluster: scenario.name, user: 'simulated' } }],
}, null, 2), { mode: 0o600 });

const ticking = setInterval(() => accessLog.tick(), TICK_MS);
const pruning = setInterval(() => figures.prune(), 600_000);
const health = new Health();
const healthServer = await serveHealth({ service: 'simulator', host: config.healthHost, port: config.healthPort, health, metrics: createMetrics('simulator') });
log.info({ scenario: scenario.name, port, nodes: cluster.nodes.length, workloads: scenario.workloads.length }, 'the simulated cluster runs');

async function end(): Promise<void> {
  clearInterval(ticking);
  clearInterval(pruning);
  await Promise.all([api.close(), prometheus.stop(), healthServer.close()]);
  await writing;
  process.exit(0);
}
process.once('SIGTERM', () => void end());
process.once('SIGINT', () => void end());
