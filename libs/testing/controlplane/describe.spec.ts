import { controlPlaneAvailability } from './build.js';
import { describeWithControlPlane } from './describe.js';

describe('tests on the control plane, where it cannot be built', () => {
  const before = { ...process.env };
  const real = globalThis.describe;
  let said = '';

  /** What {@link describeWithControlPlane} makes of a suite: how it is described, under which name, with which body. */
  function describedWith(environment: Record<string, string | undefined>): { how: string; name: string; body: () => void }[] {
    const seen: { how: string; name: string; body: () => void }[] = [];
    const note = (how: string) => (name: string, body: () => void) => void seen.push({ how, name, body });
    globalThis.describe = Object.assign(note('run'), { skip: note('skip') }) as unknown as typeof describe;
    Object.assign(process.env, { PATH: '/nowhere', UPID_CACHE: '/nowhere', ...environment });
    const write = process.stderr.write;
    process.stderr.write = (text) => {
      said += String(text);
      return true;
    };
    try {
      describeWithControlPlane('a suite', () => undefined);
    } finally {
      process.stderr.write = write;
      globalThis.describe = real;
    }
    return seen;
  }

  afterEach(() => {
    process.env = { ...before };
    said = '';
  });

  it('are skipped, and say why', () => {
    expect(describedWith({ CI: '' })).toMatchObject([{ how: 'skip', name: expect.stringMatching(/^a suite \(skipped: Go 1\.\d+\.\d+ or newer is not on the PATH/) as string }]);
    expect(said).toMatch(/^SKIPPED: a suite: Go .* is not on the PATH/);
  });

  it('fail in CI', () => {
    const [suite] = describedWith({ CI: 'true' });
    expect(suite?.how).toBe('run');
    const tests: (() => void)[] = [];
    const realIt = globalThis.it;
    globalThis.it = ((_: string, body: () => void) => void tests.push(body)) as unknown as typeof it;
    try {
      suite?.body();
    } finally {
      globalThis.it = realIt;
    }
    expect(tests).toHaveLength(1);
    expect(() => tests[0]?.()).toThrow(/There is no control plane here: Go .* is not on the PATH/);
  });

  it('know what is missing', () => {
    process.env['PATH'] = '/nowhere';
    process.env['UPID_CACHE'] = '/nowhere';
    expect(controlPlaneAvailability()).toMatchObject({ available: false, reason: expect.stringContaining('without pip it cannot be fetched') as string });
  });
});
