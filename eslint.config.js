import { dirname, join, relative, resolve } from 'node:path';
import js from '@eslint/js';
import tseslint from 'typescript-eslint';
import { mayImport } from './scripts/layers.mjs';

/** Every import of a file of src, dynamic ones and those of types included, goes by the table of layers. */
const layers = {
  create: (context) => {
    const inSrc = (path) => relative(join(import.meta.dirname, 'src'), path);
    const check = (node, source) => {
      const named = source?.type === 'TemplateLiteral' ? source.quasis[0].value.cooked : source?.value;
      if (typeof named !== 'string' || !named.startsWith('.')) return;
      const [from, to] = [context.filename, resolve(dirname(context.filename), named)].map(inSrc);
      if (!mayImport(from, to))
        context.report({ node, message: `${from} may not import ${to}: see scripts/layers.mjs` });
    };
    const ofSource = (node) => {
      check(node, node.source);
    };
    return {
      ImportDeclaration: ofSource,
      ExportAllDeclaration: ofSource,
      ExportNamedDeclaration: ofSource,
      ImportExpression: ofSource,
      TSImportType: ofSource,
      TSExternalModuleReference: (node) => {
        check(node, node.expression);
      },
      "CallExpression[callee.name='require']": (node) => {
        check(node, node.arguments[0]);
      },
    };
  },
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
    rules: { 'no-console': 'error' },
  },
  {
    files: ['src/**/*.ts'],
    ignores: ['src/cli/**', 'src/daemon/worker.ts'],
    rules: { 'no-restricted-properties': ['error', { object: 'process', property: 'exit' }] },
  },
  {
    files: ['src/**/*.ts'],
    plugins: { src: { rules: { layers } } },
    rules: {
      'src/layers': 'error',
      'max-lines-per-function': ['error', { max: 120, skipBlankLines: true, skipComments: true }],
    },
  },
);
