import { readFileSync } from 'node:fs';
const swc = JSON.parse(readFileSync(new URL('.swcrc', import.meta.url), 'utf8'));
/** @type {import('jest').Config} */
export default {
  testEnvironment: 'node',
  extensionsToTreatAsEsm: ['.ts'],
  transform: { '^.+\\.ts$': ['@swc/jest', { ...swc, sourceMaps: 'inline', swcrc: false, configFile: false }] },
  moduleNameMapper: {
    '^@upid/(contracts|platform|testing)$': '<rootDir>/libs/$1/index.ts',
    '^@upid/testing/random$': '<rootDir>/libs/testing/random.ts',
    '^@upid/(collector|intelligence|cost|optimizer|gateway)/(.*)$': '<rootDir>/services/$1/$2.ts',
    '^@upid/(cli|simulator)/(.*)$': '<rootDir>/$1/$2.ts',
    '^(\\.{1,2}/.*)\\.js$': '$1',
  },
  modulePathIgnorePatterns: ['/dist/', '/.upid/', '/.toolchain/'],
  testPathIgnorePatterns: ['/node_modules/', '/dist/'],
  collectCoverageFrom: [
    'services/**/*.ts', 'libs/contracts/**/*.ts',
    // Decision code alone: what a suffix names (service, repository, client, ...) is covered by tests with real servers.
    '!**/*.*.ts', '!**/main.ts', '!**/index.ts', '!**/dist/**', '!**/node_modules/**',
  ],
};
