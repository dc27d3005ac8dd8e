/** What each room of src may import: the layers of the design, held over every import that there is. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import ts from 'typescript';
import { LAYERS, mayImport } from '../../scripts/layers.mjs';

const ROOT = resolve(import.meta.dirname, '../..');

/** The only places of packages: each is one room's own business. */
const PACKAGE_PLACES: Readonly<Record<string, string | readonly string[]>> = {
  '@aws-sdk/': 'stores/s3',
  '@smithy/': 'stores/s3',
  '@noble/': 'frontends/',
  ssh2: ['frontends/', 'probe/'],
  'http2-wrapper': 'probe/',
  yaml: 'config/',
  valibot: 'config/',
  yargs: 'cli/',
  'get-east-asian-width': 'cli/',
  'http-proxy-agent': 'web/',
  'https-proxy-agent': 'web/',
  'proxy-from-env': 'web/',
  'prom-client': 'metrics/',
  nodemailer: 'notify/',
  pino: 'cli/',
  pg: 'database/',
  'pino-pretty': 'cli/',
};

/** The core is pure, and the ports take no more of Node than the types of its streams. */
const NODE_ALLOWED = (room: string, typeOnly: boolean): boolean => room !== 'core' && (room !== 'ports' || typeOnly);

/** Beside the commands, a worker whose primary is gone ends itself. */
const ORPHAN = 'daemon/worker.ts';

interface Import {
  readonly from: string;
  readonly typeOnly: boolean;
}

/** Every import of a source, of whatever form, and whether it says `process.exit`. */
function read(path: string, text: string): { readonly imports: readonly Import[]; readonly exits: boolean } {
  const imports: Import[] = [];
  let exits = false;
  const add = (specifier: ts.Node | undefined, typeOnly: boolean): void => {
    if (specifier === undefined) return;
    // What is not written out cannot be checked.
    imports.push({ from: ts.isStringLiteralLike(specifier) ? specifier.text : '?', typeOnly });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node))
      add(node.moduleSpecifier, node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword);
    else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly);
    else if (ts.isImportTypeNode(node))
      add(ts.isLiteralTypeNode(node.argument) ? node.argument.literal : node.argument, true);
    else if (ts.isCallExpression(node)) {
      const { expression } = node;
      const called = ts.isPropertyAccessExpression(expression) ? expression.expression : expression;
      if (called.kind === ts.SyntaxKind.ImportKeyword || (ts.isIdentifier(called) && called.text === 'require'))
        add(node.arguments[0], false);
    } else if (
      (ts.isPropertyAccessExpression(node) && node.name.text === 'exit') ||
      (ts.isElementAccessExpression(node) &&
        ts.isStringLiteralLike(node.argumentExpression) &&
        node.argumentExpression.text === 'exit')
    )
      exits ||= node.expression.getText() === 'process';
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true));
  return { imports, exits };
}

/** What a set of sources does that it may not, one line for each. @param sources - text by path below src */
function violations(sources: ReadonlyMap<string, string>, dependencies: ReadonlySet<string>): string[] {
  return [...sources].flatMap(([path, text]) => {
    const room = path.split('/')[0] ?? path;
    if (!Object.hasOwn(LAYERS, room)) return [`${path}: a new room; say in scripts/layers.mjs what it may import`];
    const { imports, exits } = read(path, text);
    const wrong = imports.flatMap(({ from, typeOnly }) => {
      const why = problemOf(path, room, from, typeOnly, sources, dependencies);
      return why === undefined ? [] : [`${path}: ${from}: ${why}`];
    });
    return exits && room !== 'cli' && path !== ORPHAN ? [...wrong, `${path}: process.exit belongs in cli`] : wrong;
  });
}

function problemOf(
  path: string,
  room: string,
  from: string,
  typeOnly: boolean,
  sources: ReadonlyMap<string, string>,
  dependencies: ReadonlySet<string>,
): string | undefined {
  if (from.startsWith('.')) {
    const target = relative('/src', resolve('/src', dirname(path), from));
    if (target.startsWith('..')) return 'leaves src';
    if (!sources.has(target)) return 'there is no such file';
    return mayImport(path, target) ? undefined : `${room} may not import this`;
  }
  if (from.startsWith('node:')) return NODE_ALLOWED(room, typeOnly) ? undefined : `${room} may not import this`;
  const [scope = ''] = from.split('/');
  const place = PACKAGE_PLACES[scope.startsWith('@') ? `${scope}/` : scope];
  if (place === undefined) return 'a new package; say in this test where it belongs';
  const places = typeof place === 'string' ? [place] : place;
  if (!places.some((one) => path.startsWith(one))) return `belongs in ${places.join(' or ')}`;
  return dependencies.has(packageOf(from)) ? undefined : 'not in dependencies';
}

function packageOf(from: string): string {
  return from.split('/', from.startsWith('@') ? 2 : 1).join('/');
}

/** The chains of imports that end where they began. */
function cycles(sources: ReadonlyMap<string, string>): string[] {
  const next = new Map(
    [...sources].map(([path, text]) => {
      const targets = read(path, text).imports.filter(({ from }) => from.startsWith('.'));
      return [path, targets.map(({ from }) => relative('/src', resolve('/src', dirname(path), from)))] as const;
    }),
  );
  const found: string[] = [];
  const done = new Set<string>();
  const walk = (path: string, chain: readonly string[]): void => {
    if (chain.includes(path)) found.push([...chain.slice(chain.indexOf(path)), path].join(' > '));
    else if (!done.has(path)) {
      for (const target of next.get(path) ?? []) walk(target, [...chain, path]);
      done.add(path);
    }
  };
  for (const path of next.keys()) walk(path, []);
  return found;
}

describe('src', () => {
  const files = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter((path) =>
    /\.(?:ts|css)$/.test(path),
  );
  const textOf = (path: string): string => (path.endsWith('.ts') ? readFileSync(join(ROOT, 'src', path), 'utf8') : '');
  const sources = new Map(files.map((path) => [path, textOf(path)]));
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };

  test('has all the rooms, and only these', () => {
    const rooms = new Set(files.map((path) => path.split('/')[0]));
    expect([...rooms].sort()).toEqual(Object.keys(LAYERS).sort());
  });

  test('keeps to its layers', () => {
    expect(violations(sources, new Set(Object.keys(manifest.dependencies)))).toEqual([]);
  });

  test('uses all that the table allows', () => {
    const used = [...sources].flatMap(([path, text]) =>
      read(path, text).imports.map(
        ({ from }) => [path, relative('/src', resolve('/src', dirname(path), from))] as const,
      ),
    );
    const unused = Object.entries(LAYERS).flatMap(([room, allowed]) =>
      allowed
        .filter(
          (one) =>
            !used.some(
              ([path, to]) => path.split('/')[0] === room && (one.endsWith('/') ? to.startsWith(one) : to === one),
            ),
        )
        .map((one) => `${room}: ${one}`),
    );
    expect(unused).toEqual([]);
  });

  test('imports every package that is installed for it', () => {
    const imported = new Set(
      [...sources].flatMap(([path, text]) => read(path, text).imports.map(({ from }) => packageOf(from))),
    );
    expect(Object.keys(manifest.dependencies).filter((name) => !imported.has(name))).toEqual([]);
  });

  test('has no import that leads back to where it began', () => {
    expect(cycles(sources)).toEqual([]);
  });

  test('makes text printable in one place', () => {
    // Classes of Unicode and ranges of controls, as a regular expression that replaces them would name them.
    const own = /\\p\{(?:C|C[cfons]|Z[lp])\}|\\x00-\\x[01][0-9a-f]|\\u202[a-e]|\\x9b|\\u009b/i;
    const elsewhere = [...sources].filter(([path, text]) => path !== 'core/printable.ts' && own.test(text));
    expect(elsewhere.map(([path]) => path)).toEqual([]);
  });
});

describe('the test itself sees', () => {
  const tree: Readonly<Record<string, string>> = {
    'core/errors.ts': '',
    'ports/log.ts': '',
    'config/types.ts': '',
    'config/load.ts': '',
    'config/secrets.ts': '',
    'stores/s3-store.ts': '',
    'stores/s3/client.ts': '',
    'restic/handler.ts': '',
    'frontends/ssh-server.ts': '',
    'audit/jsonl-sink.ts': '',
    'cli/main.ts': '',
    'gateway/gateway.ts': '',
    'gateway/sessions.ts': '',
  };
  const found = (path: string, text: string): string[] =>
    violations(
      new Map(Object.entries({ ...tree, [path]: text })),
      new Set(['ssh2', 'yaml', 'yargs', '@aws-sdk/client-s3']),
    );

  test.each([
    ['core/a.ts', `import { x } from '../ports/log.ts';`, 'core/a.ts: ../ports/log.ts: core may not import this'],
    [
      'core/a.ts',
      `import type { X } from '../config/types.ts';`,
      'core/a.ts: ../config/types.ts: core may not import this',
    ],
    ['core/a.ts', `import { hash } from 'node:crypto';`, 'core/a.ts: node:crypto: core may not import this'],
    ['core/a.ts', `import type { Duplex } from 'node:stream';`, 'core/a.ts: node:stream: core may not import this'],
    ['ports/a.ts', `import { Duplex } from 'node:stream';`, 'ports/a.ts: node:stream: ports may not import this'],
    [
      'ports/a.ts',
      `import type { C } from '../config/types.ts';`,
      'ports/a.ts: ../config/types.ts: ports may not import this',
    ],
    [
      'config/a.ts',
      `import type { L } from '../ports/log.ts';`,
      'config/a.ts: ../ports/log.ts: config may not import this',
    ],
    [
      'limits/a.ts',
      `import { l } from '../config/load.ts';`,
      'limits/a.ts: ../config/load.ts: limits may not import this',
    ],
    [
      'stores/a.ts',
      `import { l } from '../config/load.ts';`,
      'stores/a.ts: ../config/load.ts: stores may not import this',
    ],
    [
      'audit/a.ts',
      `import { l } from '../config/secrets.ts';`,
      'audit/a.ts: ../config/secrets.ts: audit may not import this',
    ],
    [
      'restic/a.ts',
      `import type { C } from '../config/types.ts';`,
      'restic/a.ts: ../config/types.ts: restic may not import this',
    ],
    [
      'restic/a.ts',
      `export * from '../stores/s3-store.ts';`,
      'restic/a.ts: ../stores/s3-store.ts: restic may not import this',
    ],
    [
      'restic/a.ts',
      `const s = await import('../frontends/ssh-server.ts');`,
      'restic/a.ts: ../frontends/ssh-server.ts: restic may not import this',
    ],
    [
      'frontends/a.ts',
      `import { h } from '../restic/handler.ts';`,
      'frontends/a.ts: ../restic/handler.ts: frontends may not import this',
    ],
    [
      'frontends/a.ts',
      `type S = import('../stores/s3-store.ts').S;`,
      'frontends/a.ts: ../stores/s3-store.ts: frontends may not import this',
    ],
    [
      'frontends/a.ts',
      `import { g } from '../gateway/gateway.ts';`,
      'frontends/a.ts: ../gateway/gateway.ts: frontends may not import this',
    ],
    [
      'frontends/a.ts',
      `const s = require('../stores/s3-store.ts');`,
      'frontends/a.ts: ../stores/s3-store.ts: frontends may not import this',
    ],
    [
      'gateway/a.ts',
      `import { d } from '../frontends/ssh-server.ts';`,
      'gateway/a.ts: ../frontends/ssh-server.ts: gateway may not import this',
    ],
    [
      'gateway/a.ts',
      `import { m } from '../cli/main.ts';`,
      'gateway/a.ts: ../cli/main.ts: gateway may not import this',
    ],
    [
      'cli/a.ts',
      `import { s } from '../gateway/sessions.ts';`,
      'cli/a.ts: ../gateway/sessions.ts: cli may not import this',
    ],
    [
      'cli/a.ts',
      `import { h } from '../restic/handler.ts';`,
      'cli/a.ts: ../restic/handler.ts: cli may not import this',
    ],
    [
      'cli/a.ts',
      `import { s } from '../stores/s3-store.ts';`,
      'cli/a.ts: ../stores/s3-store.ts: cli may not import this',
    ],
    [
      'stores/directory-store.ts',
      `import { S3 } from '@aws-sdk/client-s3';`,
      'stores/directory-store.ts: @aws-sdk/client-s3: belongs in stores/s3',
    ],
    ['cli/a.ts', `import ssh2 from 'ssh2';`, 'cli/a.ts: ssh2: belongs in frontends/ or probe/'],
    ['cli/a.ts', `import { parse } from 'yaml';`, 'cli/a.ts: yaml: belongs in config/'],
    [
      'cli/a.ts',
      `import { hideBin } from 'yargs/helpers';\nimport pino from 'pino';`,
      'cli/a.ts: pino: not in dependencies',
    ],
    ['cli/a.ts', `import x from 'left-pad';`, 'cli/a.ts: left-pad: a new package; say in this test where it belongs'],
    ['cli/a.ts', `await import(name);`, 'cli/a.ts: ?: a new package; say in this test where it belongs'],
    ['cli/a.ts', `import x from '../../test/x.ts';`, 'cli/a.ts: ../../test/x.ts: leaves src'],
    ['cli/a.ts', `import x from './b.js';`, 'cli/a.ts: ./b.js: there is no such file'],
    ['frontends/a.ts', `if (x) process.exit(1);`, 'frontends/a.ts: process.exit belongs in cli'],
    ['daemon/a.ts', `if (x) process.exit(1);`, 'daemon/a.ts: process.exit belongs in cli'],
    ['frontends/a.ts', `process['exit'](1);`, 'frontends/a.ts: process.exit belongs in cli'],
    ['rumours/a.ts', ``, 'rumours/a.ts: a new room; say in scripts/layers.mjs what it may import'],
  ])('%s: %s', (path, text, violation) => {
    expect(found(path, text)).toEqual([violation]);
  });

  test.each([
    ['core/a.ts', `import { x } from './errors.ts'; // import '../ports/log.ts'`],
    ['ports/a.ts', `import type { Duplex } from 'node:stream'; import { e } from '../core/errors.ts';`],
    ['stores/a.ts', `import { s } from '../config/secrets.ts'; import type { C } from '../config/types.ts';`],
    ['stores/s3/a.ts', `import { S3 } from '@aws-sdk/client-s3'; import { s } from '../s3-store.ts';`],
    ['cli/a.ts', `import { j } from '../audit/jsonl-sink.ts'; process.exit(0);`],
    ['frontends/a.ts', `process.exitCode = 1; stream.exit(0);`],
    ['limits/a.ts', `import type { C } from '../config/types.ts';`],
    ['gateway/a.ts', `import { j } from '../audit/jsonl-sink.ts'; import { h } from '../restic/handler.ts';`],
  ])('nothing wrong in %s: %s', (path, text) => {
    expect(found(path, text)).toEqual([]);
  });

  test('cycles, type imports included', () => {
    const sources = {
      'core/a.ts': `import './b.ts';`,
      'core/b.ts': `import type { A } from './c.ts';`,
      'core/c.ts': `export * from './a.ts';`,
    };
    expect(cycles(new Map(Object.entries(sources)))).toEqual(['core/a.ts > core/b.ts > core/c.ts > core/a.ts']);
  });
});
