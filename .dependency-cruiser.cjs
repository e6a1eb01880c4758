// The house's rules: data walks one way, and a file's suffix says what it may touch (docs/architecture.md).
const source = (suffix) => `^(libs|services|cli|simulator|bench)/.*\\.${suffix}\\.ts$`;
/** A pure file: no suffix before .ts, and neither an entry nor an index. */
const pure = '^services/.*/[^./]+\\.ts$';
const notPure = '(/main\\.ts|/index\\.ts)$';

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'services-are-apart', severity: 'error', comment: 'Services never import each other: facts travel as events, questions as request/reply.',
      from: { path: '^services/([^/]+)/' }, to: { path: '^services/([^/]+)/', pathNot: '^services/$1/' },
    },
    {
      name: 'contracts-import-zod-alone', severity: 'error',
      from: { path: '^libs/contracts/', pathNot: '\\.spec\\.ts$' }, to: { pathNot: ['^libs/contracts/', 'node_modules/zod/', '/zod@'] },
    },
    {
      name: 'platform-knows-no-service', severity: 'error',
      from: { path: '^libs/' }, to: { path: '^(services|cli|simulator|bench|test-e2e)/' },
    },
    {
      name: 'decisions-are-pure', severity: 'error', comment: 'thing.ts holds decisions: contracts and other pure files alone.',
      from: { path: pure, pathNot: notPure },
      to: { pathNot: ['^libs/contracts/', '^services/.*/[^./]+\\.ts$', 'node_modules/(zod|decimal\\.js)/', '/(zod|decimal\\.js)@'] },
    },
    {
      name: 'sql-in-repositories', severity: 'error', comment: 'Only repositories, modules and entries reach the database.',
      from: { path: '^services/', pathNot: ['\\.(repository|module)\\.ts$', 'main\\.ts$', '\\.(spec|fixture)\\.ts$'] }, to: { path: 'node_modules/(pg|pg-copy-streams)/' },
    },
    {
      name: 'other-systems-in-clients', severity: 'error', comment: 'Only clients, modules and entries reach another system\'s library.',
      from: { path: '^services/', pathNot: ['\\.(client|module)\\.ts$', 'main\\.ts$', '\\.(spec|fixture)\\.ts$'] },
      to: { path: 'node_modules/(@kubernetes/client-node|ioredis)/' },
    },
    {
      name: 'services-without-controllers-below', severity: 'error', comment: 'A use case knows nothing of who asks.',
      from: { path: source('service') }, to: { path: '\\.(controller|consumer|handler|module)\\.ts$' },
    },
    { name: 'not-to-test', severity: 'error', from: { pathNot: ['\\.(spec|fixture)\\.ts$', '^test-e2e/', '^libs/testing/', '^bench/', '^simulator/'] }, to: { path: ['\\.(spec|fixture)\\.ts$', '^libs/testing/', '^test-e2e/'] } },
    { name: 'cli-is-a-client', severity: 'error', from: { path: '^cli/' }, to: { path: '^(services|simulator)/' } },
    { name: 'not-to-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^|/)dist/' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: false,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['types', 'import', 'node', 'default'] },
  },
};
