import { Writable } from 'node:stream';
import { createLogger, currentCorrelation, outgoingTrace, parseTraceparent, withCorrelation, withIncomingTrace } from './logging.js';

function capture() {
  const lines: Record<string, unknown>[] = [];
  const destination = new Writable({ write(chunk: Buffer, _encoding, done) { lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>); done(); } });
  return { lines, log: createLogger('cost', { destination }) };
}

describe('logs and traces', () => {
  it('puts service, correlation and fields into every line, over awaits', async () => {
    const { lines, log } = capture();
    await withCorrelation({ batch_id: 'b1' }, async () => {
      await Promise.resolve();
      withCorrelation({ cluster_id: 'demo' }, () => log.info({ n: 1 }, 'stored'));
    });
    log.warn('outside');
    expect(lines[0]).toMatchObject({ level: 'info', service: 'cost', batch_id: 'b1', cluster_id: 'demo', n: 1, msg: 'stored' });
    expect(lines[0]?.correlation_id).toMatch(/^[0-9a-f]{32}$/);
    expect(lines[1]).not.toHaveProperty('correlation_id');
  });

  it('hides what is secret', () => {
    const { lines, log } = capture();
    log.info({ password: 'hunter2', user: { token: 'hunter2' } }, 'connected');
    expect(JSON.stringify(lines)).not.toContain('hunter2');
  });

  it('continues the trace that arrived, with a span of its own', () => {
    const incoming = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
    withIncomingTrace((name) => ({ traceparent: incoming, 'Upid-Correlation-Id': 'req-1' })[name], {}, () => {
      expect(currentCorrelation()?.correlationId).toBe('req-1');
      const out = outgoingTrace();
      const parsed = parseTraceparent(out.traceparent);
      expect(parsed).toMatchObject({ traceId: 'a'.repeat(32), flags: 1 });
      expect(parsed?.spanId).not.toBe('b'.repeat(16));
      expect(out['Upid-Correlation-Id']).toBe('req-1');
    });
  });

  it.each(['', 'x', `00-${'0'.repeat(32)}-${'b'.repeat(16)}-01`, `01-${'a'.repeat(32)}-${'b'.repeat(16)}-01`])('starts a trace where %j arrives', (text) => {
    expect(parseTraceparent(text)).toBeNull();
    withIncomingTrace((name) => ({ traceparent: text, 'Upid-Correlation-Id': 'a\nb' })[name], {}, () => {
      const { traceparent, 'Upid-Correlation-Id': id } = outgoingTrace();
      expect(parseTraceparent(traceparent)).not.toBeNull();
      expect(id).toMatch(/^[0-9a-f]{32}$/);
    });
  });
});
