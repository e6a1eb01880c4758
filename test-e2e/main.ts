/**
 * For people: `node test-e2e/dist/main.js` starts the shop of the end-to-end tests with UPID beside it, says where, and ends both on Ctrl-C.
 * Changes are allowed; the policy is the reference's.
 */
import { Platform } from './platform.js';
import { startShop } from './shop.js';

const shop = await startShop();
const platform = await Platform.start(shop.cluster, { clusterId: 'lab', kubeconfig: shop.kubeconfig, allowChanges: true });
console.log(`KUBECONFIG=${shop.cluster.kubeconfigPath}\nUPID=${platform.client.url}\nAPI_KEY=${platform.state.apiKeyFile}\nSTATE=${platform.state.dir}`);
const signal = await new Promise<string>((resolve) => {
  const beat = setInterval(() => undefined, 60_000); // the servers are others' processes: something here has to stay alive
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => {
    clearInterval(beat);
    resolve(name);
  });
});
console.log(`${signal}: ending the shop`);
await shop.traffic.stop();
await platform.stop();
await shop.cluster.stop();
