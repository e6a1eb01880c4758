/**
 * For people: `node libs/testing/dist/controlplane/main.js build` builds the control plane ahead of the tests;
 * `... up [NODES]` starts one, prints its kubeconfig's path and the kubelets' proxy, and ends it on Ctrl-C.
 */
import { buildControlPlane } from './build.js';
import { startControlPlane } from './controlplane.js';

const [command, nodes = '3'] = process.argv.slice(2);
if (command === 'build') {
  await buildControlPlane();
} else if (command === 'up') {
  const controlPlane = await startControlPlane();
  await controlPlane.addNodes(Number(nodes));
  console.log(`KUBECONFIG=${controlPlane.kubeconfigPath}\nKUBELET_PROXY=${controlPlane.kubeletProxyUrl}`);
  const signal = await new Promise<string>((resolve) => {
    const beat = setInterval(() => undefined, 60_000); // the servers are others' processes: something here has to stay alive
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => {
      clearInterval(beat);
      resolve(name);
    });
  });
  console.log(`${signal}: ending the control plane`);
  await controlPlane.stop();
} else {
  console.error('usage: main.js build | up [NODES]');
  process.exitCode = 2;
}
