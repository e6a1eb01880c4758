import { z } from 'zod';
import * as contracts from './index.js';

const described = (schema: z.ZodType) => JSON.stringify(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any', reused: 'ref' }));

/** Every schema on a wire, by name, as JSON Schema in one line. */
function schemas(): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [name, value] of Object.entries(contracts)) if (value instanceof z.ZodType) found[name] = described(value);
  for (const [service, queries] of Object.entries(contracts.QUERIES)) {
    for (const [name, { request, response }] of Object.entries(queries)) {
      found[`${service}.${name} request`] = described(request);
      found[`${service}.${name} response`] = described(response);
    }
  }
  return found;
}

// A change here changes a wire that deployed agents and services speak. Adding an optional field is compatible: update the
// snapshot. Removing or renaming one, narrowing a type or requiring more is not: raise the version instead.
it('has the schemas that deployed agents and services speak', () => {
  expect(schemas()).toMatchSnapshot();
});

it('lets an unknown field pass without harm', () => {
  const namespace = { kind: 'Namespace', uid: '00000000-0000-4000-8000-000000000000', name: 'shop', from_the_future: 1 };
  expect(contracts.inventoryObjectSchema.parse(namespace)).not.toHaveProperty('from_the_future');
  expect(contracts.inventoryObjectSchema.safeParse({ ...namespace, kind: 'Moon' }).success).toBe(false);
});

it('covers every fact of the bus by exactly one stream', () => {
  const matches = (pattern: string, subject: string) => new RegExp(`^${pattern.replaceAll('.', '\\.').replaceAll('*', '[^.]+').replace(/>$/, '.+')}$`).test(subject);
  const facts = [
    ...contracts.AGENT_KINDS.filter((kind) => kind !== 'heartbeat').map((kind) => contracts.subjects.agent('demo', kind)),
    contracts.subjects.rollup('demo'), contracts.subjects.assessment('demo'), contracts.subjects.allocation('demo'), contracts.subjects.job('demo'), contracts.subjects.recommendation('demo', 'zero_scaling'), contracts.subjects.deadLetter('cost'),
  ];
  for (const fact of facts) expect(contracts.STREAMS.filter((stream) => stream.subjects.some((pattern) => matches(pattern, fact)))).toHaveLength(1);
  const plain = [contracts.subjects.agent('demo', 'heartbeat'), contracts.subjects.query('cost', 'analysis'), contracts.subjects.command('demo', 'execute')];
  for (const subject of plain) expect(contracts.STREAMS.filter((stream) => stream.subjects.some((pattern) => matches(pattern, subject)))).toHaveLength(0);
});
