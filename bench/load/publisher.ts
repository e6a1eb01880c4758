import { HEADERS, subjects } from '@upid/contracts';
import { connectBus } from '@upid/platform';
import { ClusterLoad } from './cluster-load.js';

/** What the benchmark tells its publisher … */
export type ToPublisher =
  | { readonly type: 'start'; readonly natsUrl: string; readonly clusterId: string; readonly containers: number; readonly seed: number; readonly firstMinute: number; readonly outstanding: number; readonly valuesPerMinute: number | null; /** After so many minutes of the cluster it ends by itself. */ readonly minutes: number | null }
  | { readonly type: 'folded'; readonly batches: number; readonly outstanding: number }
  | { readonly type: 'stop' };
/** … and hears of it. */
export type FromPublisher = { readonly type: 'published'; readonly batches: number; readonly values: number; readonly bytes: number; readonly minutes: number; readonly stopped: boolean };

let folded = 0;
let outstanding = 0;
let stopping = false;
let wake: () => void = () => undefined;

async function publish(order: Extract<ToPublisher, { type: 'start' }>): Promise<void> {
  const bus = await connectBus({ url: order.natsUrl, name: 'bench-publisher' });
  const load = new ClusterLoad(order.containers, order.seed);
  const epoch = crypto.getRandomValues(new Uint8Array(16));
  const epochName = Buffer.from(epoch).toString('hex');
  outstanding = order.outstanding;
  const subject = subjects.agent(order.clusterId, 'usage');
  let batches = 0;
  let bytes = 0;
  let minutes = 0;
  const tell = (stopped: boolean) => process.send?.({ type: 'published', batches, values: minutes * load.valuesPerMinute, bytes, minutes, stopped } satisfies FromPublisher);
  const timer = setInterval(() => tell(false), 250);
  const started = performance.now();
  while (!stopping && (order.minutes === null || minutes < order.minutes)) {
    // Closed loop: no further ahead of the fold than told; with a rate, no faster than that.
    while (!stopping && batches - folded > outstanding) await new Promise<void>((resolve) => { wake = resolve; });
    if (order.valuesPerMinute !== null) {
      const due = started + ((minutes * load.valuesPerMinute) / order.valuesPerMinute) * 60_000;
      const wait = due - performance.now();
      if (wait > 1) await new Promise((resolve) => { setTimeout(resolve, wait); });
    }
    const payloads = load.minute(order.firstMinute + minutes, epoch, batches);
    await Promise.all(payloads.map((payload, i) => bus.publish(subject, payload, { msgId: `${order.clusterId}/${epochName}/${batches + i}`, headers: { [HEADERS.publishedAt]: new Date().toISOString() } })));
    batches += payloads.length;
    for (const payload of payloads) bytes += payload.length;
    minutes++;
  }
  clearInterval(timer);
  tell(true);
  await bus.drain();
  process.disconnect();
}

process.on('message', (message: ToPublisher) => {
  if (message.type === 'folded') ({ batches: folded, outstanding } = message);
  else if (message.type === 'stop') stopping = true;
  else publish(message).catch((error: unknown) => { console.error(error); process.exit(1); });
  wake();
});
