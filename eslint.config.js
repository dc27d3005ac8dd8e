import js from '@eslint/js';
import tseslint from 'typescript-eslint';

/** What each room of src may not import; test/architecture/architecture.test.ts holds the same table from the other side. */
const LAYERS = {
  core: [
    'ports',
    'stores',
    'limits',
    'safeguard',
    'restic',
    'upkeep',
    'doors',
    'audit',
    'config',
    'cli',
    'gateway.ts',
    'maintenance.ts',
  ],
  ports: [
    'stores',
    'limits',
    'safeguard',
    'restic',
    'upkeep',
    'doors',
    'audit',
    'config',
    'cli',
    'gateway.ts',
    'maintenance.ts',
  ],
  config: [
    'ports',
    'stores',
    'limits',
    'safeguard',
    'restic',
    'upkeep',
    'doors',
    'audit',
    'cli',
    'gateway.ts',
    'maintenance.ts',
  ],
  stores: ['limits', 'safeguard', 'restic', 'upkeep', 'doors', 'audit', 'cli', 'gateway.ts', 'maintenance.ts'],
  limits: ['stores', 'safeguard', 'restic', 'upkeep', 'doors', 'audit', 'cli', 'gateway.ts', 'maintenance.ts'],
  safeguard: ['limits', 'restic', 'upkeep', 'doors', 'audit', 'cli', 'gateway.ts', 'maintenance.ts'],
  audit: ['stores', 'limits', 'safeguard', 'restic', 'upkeep', 'doors', 'cli', 'gateway.ts', 'maintenance.ts'],
  restic: [
    'stores',
    'limits',
    'safeguard',
    'upkeep',
    'doors',
    'audit',
    'config',
    'cli',
    'gateway.ts',
    'maintenance.ts',
  ],
  upkeep: [
    'stores',
    'limits',
    'safeguard',
    'restic',
    'doors',
    'audit',
    'config',
    'cli',
    'gateway.ts',
    'maintenance.ts',
  ],
  doors: ['stores', 'limits', 'safeguard', 'restic', 'upkeep', 'audit', 'cli', 'gateway.ts', 'maintenance.ts'],
};

export default tseslint.config(
  { ignores: ['dist/', 'coverage/', '.lab/', '.quickstart/'] },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      '@typescript-eslint/consistent-type-imports': 'error',
    },
  },
  {
    files: ['**/*.mjs', '**/*.js'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly', URL: 'readonly', Buffer: 'readonly' } },
  },
  {
    files: ['src/**/*.ts'],
    ignores: ['src/cli/**'],
    rules: { 'no-console': 'error', 'no-restricted-properties': ['error', { object: 'process', property: 'exit' }] },
  },
  ...Object.entries(LAYERS).map(([room, closed]) => ({
    files: [`src/${room}/**/*.ts`],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            {
              group: closed.map((other) => `**/${other}${other.endsWith('.ts') ? '' : '/**'}`),
              message: `src/${room} may not import this: see README, Layout`,
            },
          ],
        },
      ],
    },
  })),
);
