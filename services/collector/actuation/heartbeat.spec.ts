import { heartbeatSchema, type Heartbeat } from '@upid/contracts';
import { uuidOf } from '../inventory/identifiers.js';
import { HeartbeatService } from './heartbeat.service.js';

function heart(reply: () => unknown) {
  const sent: Heartbeat[] = [];
  const received: unknown[] = [];
  const held: boolean[] = [];
  const told: string[] = [];
  let snapshots = 0;
  const log = { info: (_: object, text: string) => told.push(text), warn: (_: object, text: string) => told.push(text), error: (_: object, text: string) => told.push(text) };
  const service = new HeartbeatService({ request: async <T>(_: string, request: unknown) => { sent.push(heartbeatSchema.parse(request)); return reply() as T; } }, {
    clusterId: 'lab', epoch: uuidOf('epoch'), fingerprint: uuidOf('cluster'), agentVersion: '1', actuation: true, depth: () => ({ batches: 2, bytes: 300 }), streams: () => 1, sleepers: () => [], fence: () => 7, counters: () => ({ wakes: 1 }),
    receive: async (command) => { received.push(command); return { accepted: true, code: null, message: '' }; }, hold: async (each) => { held.push(each); }, wantSnapshot: () => { snapshots++; }, log, now: () => 0,
  });
  return { service, sent, received, held, told, snapshots: () => snapshots };
}
const answer = (more: object = {}) => ({ accepted: true, reason: null, commands: [], hold: false, want_snapshot: false, ...more });

describe('the heartbeat', () => {
  it('says how the agent is, and brings hold and wishes', async () => {
    const { service, sent, held, snapshots } = heart(() => answer({ hold: true, want_snapshot: true }));
    await service.beat();
    expect(sent[0]).toMatchObject({ spool_batches: 2, spool_bytes: 300, fence: 7, fingerprint: uuidOf('cluster'), counters: { wakes: 1 } });
    expect([held, snapshots()]).toEqual([[true], 1]);
  });

  it('changes nothing where the platform is away, answers nonsense, or does not accept the agent', async () => {
    let next: () => unknown = () => { throw new Error('away'); };
    const { service, held, received, told } = heart(() => next());
    await service.beat();
    await service.beat();
    next = () => ({ nonsense: 1 });
    await service.beat();
    next = () => answer({ accepted: false, reason: 'another cluster has this id', commands: [], hold: true });
    await service.beat();
    await service.beat();
    expect([held, received]).toEqual([[], []]);
    // Each is told once, however long it lasts.
    expect(told).toEqual(['the platform does not answer the heartbeat', 'the answer to the heartbeat cannot be read', 'the platform answers the heartbeat', 'the platform does not accept this agent']);
  });
});
