import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { ConfigError, describeConfig, loadConfig, platformSettings, setting } from './config.js';

const settings = {
  port: setting('UPID_PORT', z.coerce.number().int().min(1).max(65_535).default(8000), 'port of the API, 1 to 65535'),
  key: setting('UPID_KEY', z.string().min(8, 'must have at least 8 characters'), 'the API key', { secret: true }),
  zone: setting('UPID_ZONE', z.string().optional(), 'time zone'),
};

describe('configuration', () => {
  it('reads values, defaults and what is optional', () => {
    expect(loadConfig(settings, { UPID_KEY: 'abcdefgh' })).toEqual({ port: 8000, key: 'abcdefgh', zone: undefined });
    expect(loadConfig(settings, { UPID_KEY: 'abcdefgh', UPID_PORT: '81', UPID_ZONE: '' }).port).toBe(81);
  });

  it('names every bad variable and what was expected, and no secret', () => {
    let error: unknown;
    try {
      loadConfig(settings, { UPID_KEY: 'hunter2', UPID_PORT: 'http' });
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(ConfigError);
    const { message } = error as ConfigError;
    expect(message).toMatch(/UPID_PORT is "http".*port of the API, 1 to 65535/);
    expect(message).toMatch(/UPID_KEY is not as expected: must have at least 8 characters/);
    expect(message).not.toContain('hunter2');
    expect(() => loadConfig(settings, {})).toThrow(/UPID_KEY is not set.*the API key/);
  });

  it('reads secrets from files and says where a file is missing', () => {
    const dir = mkdtempSync(join(tmpdir(), 'upid-config-'));
    try {
      writeFileSync(join(dir, 'key'), 'from-a-file\n');
      expect(loadConfig(settings, { UPID_KEY_FILE: join(dir, 'key') }).key).toBe('from-a-file');
      expect(() => loadConfig(settings, { UPID_KEY_FILE: join(dir, 'none') })).toThrow(/UPID_KEY_FILE: the file .*none.* cannot be read \(ENOENT\)/);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it('documents every variable in one table', () => {
    const text = describeConfig({ Platform: platformSettings, API: settings });
    for (const each of Object.values({ ...platformSettings, ...settings })) {
      expect(text).toContain(`\`${each.variable}\``);
      expect(text).toContain(each.description);
    }
    expect(text).toMatch(/`UPID_KEY` or `UPID_KEY_FILE` +\| required/);
    expect(text).toMatch(/`UPID_PORT` +\| 8000/);
  });
});
