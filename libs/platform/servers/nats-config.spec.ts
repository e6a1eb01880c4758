import { createUser } from '@nats-io/nkeys';
import { natsConfig, NatsConfigError, platformUser } from './nats-config.js';

const publicKey = createUser().getPublicKey();

describe('the configuration of the NATS server', () => {
  it('gives each agent an account that imports its own subjects alone', () => {
    const text = natsConfig({ platformUsers: [platformUser({ name: 'cost', publicKey })], agents: [{ clusterId: 'a', publicKey }, { clusterId: 'b', publicKey: createUser().getPublicKey() }] });
    expect(text.match(/imports: \[ \{ service: \{ account: "PLATFORM", subject: "upid\.v1\.[ab]\.agent\.>" \} \} \]/g)).toHaveLength(2);
    expect(text).toContain('{ service: "upid.v1.a.agent.>", accounts: ["AGENT-a"] }');
    expect(text.match(/jetstream: enabled/g)).toHaveLength(1);
  });

  it.each(['A', 'a.b', '*', '>', '', 'a b', 'x'.repeat(64), 'a"', '-a'])('refuses the cluster id %j', (clusterId) => {
    expect(() => natsConfig({ platformUsers: [], agents: [{ clusterId, publicKey }] })).toThrow(NatsConfigError);
  });

  it('refuses two agents of one cluster, keys that are none, and subjects that could break out', () => {
    expect(() => natsConfig({ platformUsers: [], agents: [{ clusterId: 'a', publicKey }, { clusterId: 'a', publicKey }] })).toThrow(/same cluster id/);
    expect(() => natsConfig({ platformUsers: [], agents: [{ clusterId: 'a', publicKey: 'SUAB' }] })).toThrow(/no public user nkey/);
    expect(() => natsConfig({ platformUsers: [platformUser({ name: 'x', publicKey, publishes: ['a" ] }'] })], agents: [] })).toThrow(/is no subject/);
    expect(() => platformUser({ name: 'x', publicKey, consumes: ['FACTS'] })).toThrow(/not STREAM\/durable/);
  });

  it('gives a service what it was asked for and nothing else', () => {
    const { publish, subscribe } = platformUser({ name: 'cost', publicKey, publishes: ['upid.v1.*.cost.>'], consumes: ['FACTS/rollup'], asks: ['intelligence'] });
    expect(subscribe).toEqual(['_INBOX_cost.>', 'upid.q.v1.cost.>']);
    expect(publish).toContain('$JS.API.CONSUMER.MSG.NEXT.FACTS.cost-rollup');
    expect(publish).toContain('upid.q.v1.intelligence.>');
    expect(publish.some((subject) => subject.startsWith('upid.cmd') || subject.includes('STREAM.CREATE') || subject === '>' || subject.includes('TELEMETRY') || subject.includes('optimizer'))).toBe(false);
  });
});
