/** One jest project a kind of test, so that each can be run alone: `scripts/test unit`. */
const common = {
  transform: {
    '^.+\\.ts$': ['@swc/jest', { jsc: { parser: { syntax: 'typescript' }, target: 'es2023' } }],
    '^.+\\.css$': '<rootDir>/test/support/text-transform.mjs',
  },
  extensionsToTreatAsEsm: ['.ts', '.css'],
  testEnvironment: 'node',
  setupFilesAfterEnv: ['<rootDir>/test/support/patience.mjs'],
  globals: { TEST_TIMEOUT_MS: 180_000 },
};

/** For tests against real peers: one radosgw a run, whichever of these projects take part in it. */
const lab = {
  ...common,
  globalSetup: '<rootDir>/test/support/global-setup.mjs',
  globalTeardown: '<rootDir>/test/support/global-teardown.mjs',
  globals: { TEST_TIMEOUT_MS: 400_000 },
};

export default {
  // Many tests wait more than they work: for restic's retries, for time limits, for storage.
  maxWorkers: 3,
  testSequencer: '<rootDir>/test/support/sequencer.mjs',
  projects: [
    {
      ...common,
      displayName: 'unit',
      // Whatever is not of another kind, so that no file is left out
      testMatch: ['<rootDir>/test/*.test.ts', '<rootDir>/test/!(contract|attacks|e2e)/**/*.test.ts'],
    },
    { ...lab, displayName: 'contract', testMatch: ['<rootDir>/test/contract/**/*.test.ts'] },
    { ...lab, displayName: 'attacks', testMatch: ['<rootDir>/test/attacks/**/*.test.ts'] },
    {
      ...lab,
      displayName: 'e2e',
      testMatch: ['<rootDir>/test/e2e/**/*.test.ts'],
      globals: { TEST_TIMEOUT_MS: 600_000 },
    },
  ],
};
