import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { krrCpu, krrMemory, vpaCpu, vpaMemory, type Samples } from './peers.js';

const data = join(import.meta.dirname, '../../../../testdata');
const MEBIBYTE = 2 ** 20;

interface Expected {
  file: string;
  vpa_1_8_1_no_pod_minimum: { cpu_target: number; cpu_lower: number; cpu_upper: number; memory_target?: number; memory_lower?: number; memory_upper?: number };
  krr_simple: { cpu_request: number; memory_request_unrounded?: number };
}

function read(file: string): { cpu: Samples; memory: Samples | null } {
  const [head, ...lines] = readFileSync(join(data, file), 'utf8').trim().split(/\r?\n/);
  const names = (head ?? '').split(',');
  const column = (name: string) => lines.map((line) => line.split(',')[names.indexOf(name)] ?? '');
  if (names.includes('CpuUsage(m)')) {
    const timesMs = column('Time').map((time) => Date.parse(`${time.slice(0, 19).replace(' ', 'T')}Z`));
    return { cpu: { timesMs, values: column('CpuUsage(m)').map(Number) }, memory: { timesMs, values: column('MemoryUsage(Mi)').map((value) => Number(value) * MEBIBYTE) } };
  }
  return { cpu: { timesMs: column('timestamp').map((time) => Date.parse(`${time.replace(' ', 'T')}Z`)), values: column('value').map((value) => Number(value) * 10) }, memory: null };
}

const expected = Object.entries(JSON.parse(readFileSync(join(data, 'rightsizing/expected.json'), 'utf8')) as Record<string, Expected>);

describe('the peers\' own answers', () => {
  it.each(expected)('%s: VPA 1.8.1 within one bucket, KRR equal', (_, { file, vpa_1_8_1_no_pod_minimum: vpa, krr_simple: krr }) => {
    const { cpu, memory } = read(file);
    const within = (ours: number | undefined, theirs: number, absolute: number) => expect(Math.abs((ours ?? NaN) - theirs)).toBeLessThanOrEqual(Math.max(0.05 * theirs, absolute));
    const cpuTarget = vpaCpu(cpu);
    within(cpuTarget?.target, vpa.cpu_target * 1000, 1);
    within(cpuTarget?.lower, vpa.cpu_lower * 1000, 1);
    within(cpuTarget?.upper, vpa.cpu_upper * 1000, 1);
    expect(krrCpu(cpu.values)).toBe(Math.round(krr.cpu_request * 1000));
    if (memory) {
      const target = vpaMemory(memory);
      within(target?.target, vpa.memory_target ?? NaN, 0);
      within(target?.lower, vpa.memory_lower ?? NaN, 0);
      within(target?.upper, vpa.memory_upper ?? NaN, 0);
      expect(Math.abs((krrMemory(memory.values) ?? NaN) - (krr.memory_request_unrounded ?? NaN))).toBeLessThanOrEqual(1);
    }
  });

  it('say nothing of nothing', () => {
    expect([vpaCpu({ timesMs: [], values: [] }), vpaMemory({ timesMs: [], values: [] }), krrCpu([]), krrMemory([])]).toEqual([null, null, null, null]);
  });
});
