/** Nothing is exported that no other file imports: what is exported is a promise, and what is not can be changed in one place. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from '@jest/globals';
import ts from 'typescript';

const ROOT = resolve(import.meta.dirname, '../..');

/** What sshd, systemd or a user starts. */
const ENTRY_POINTS = new Set(['src/cli/main.ts', 'src/cli/stdio-main.ts', 'src/cli/authorized-keys-main.ts']);

/**
 * The values that only tests import, and why each deserves a test of its own. Types need no row: a test may name the types of what it passes
 * and gets.
 */
const FOR_TESTS: Readonly<Record<string, readonly string[]>> = {
  'src/cli/json.ts': ['JSON_KINDS'],
  // Tables that the docs are held to, row by row
  'src/audit/fields.ts': ['COMMON_FIELDS', 'EVENT_FIELDS'],
  'src/core/errors.ts': ['ERROR_TABLE'],
  'src/core/node-releases.ts': ['NODE_LINES', 'RECOMMENDED_LINE'],
  'src/retention/select.ts': ['ALWAYS_KEPT'],
  // Parsers with many bad inputs, each with its own message
  'src/config/retention.ts': ['parseCalendarSpan', 'parseKept'],
  // An ssh2 that lacks a part, and limits of descriptors and time that no test can wait for or raise
  'src/frontends/mlkem-kex.ts': ['extendSsh2'],
  'src/frontends/ssh2-internals.ts': ['MEMBERS', 'missingIn', 'withSsh2Parts'],
  // A checksum, against its published examples
  'src/frontends/proxy-header.ts': ['crc32c'],
  // Another server's slip that needs the right moment
  'src/probe/repository-checks.ts': ['removeStrays'],
  'src/state/lock-holds.ts': ['LONGEST_HOLD_MS'],
  'src/state/open-files.ts': ['shareOpenFiles'],
};

interface Module {
  readonly path: string;
  readonly exported: readonly string[];
  /** Those that are interfaces or type aliases. */
  readonly types: ReadonlySet<string>;
  /** Names by the file that they are imported from. */
  readonly imported: ReadonlyMap<string, ReadonlySet<string>>;
  /** Files imported whole: by `import(…)`, `* as` or `export *`. Any of their names that is written in this file counts as used. */
  readonly whole: ReadonlySet<string>;
  readonly words: ReadonlySet<string>;
}

/** @param path - below the root */
function read(path: string, text: string): Module {
  const exported: string[] = [];
  const types = new Set<string>();
  const imported = new Map<string, Set<string>>();
  const whole = new Set<string>();
  const words = new Set<string>();
  const target = (specifier: ts.Node | undefined): string =>
    specifier !== undefined && ts.isStringLiteralLike(specifier)
      ? relative('/', resolve('/', dirname(path), specifier.text))
      : '';
  const take = (from: ts.Node | undefined, elements: ts.NodeArray<ts.ImportSpecifier | ts.ExportSpecifier>): void => {
    const names = imported.get(target(from)) ?? new Set();
    for (const { propertyName, name } of elements) names.add((propertyName ?? name).text);
    imported.set(target(from), names);
  };
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node)) words.add(node.text);
    if (ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node)) types.add(node.name.text);
    if (ts.isImportDeclaration(node)) {
      const named = node.importClause?.namedBindings;
      if (named !== undefined && ts.isNamedImports(named)) take(node.moduleSpecifier, named.elements);
      else whole.add(target(node.moduleSpecifier));
    } else if (ts.isExportDeclaration(node)) {
      const named = node.exportClause;
      if (named === undefined || ts.isNamespaceExport(named)) whole.add(target(node.moduleSpecifier));
      else {
        exported.push(...named.elements.map(({ name }) => name.text));
        if (node.moduleSpecifier !== undefined) take(node.moduleSpecifier, named.elements);
      }
    } else {
      if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
        whole.add(target(node.arguments[0]));
      else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument))
        whole.add(target(node.argument.literal));
      else if (ts.isExportAssignment(node)) exported.push('default');
      else exported.push(...declared(node));
      ts.forEachChild(node, visit);
    }
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.Latest));
  return { path, exported, types, imported, whole, words };
}

/** The names that a declaration with `export` before it exports. */
function declared(node: ts.Node): string[] {
  if (!ts.canHaveModifiers(node) || !ts.getModifiers(node)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword))
    return [];
  if (ts.isVariableStatement(node)) return node.declarationList.declarations.flatMap(({ name }) => namesIn(name));
  const { name } = node as ts.Node & { readonly name?: ts.Identifier };
  return [name?.text ?? 'default'];
}

function namesIn(name: ts.BindingName): string[] {
  if (ts.isIdentifier(name)) return [name.text];
  return name.elements.flatMap((element) => (ts.isOmittedExpression(element) ? [] : namesIn(element.name)));
}

const importsIt = (module: Module, path: string, name: string): boolean =>
  module.path !== path &&
  (module.imported.get(path)?.has(name) === true || (module.whole.has(path) && module.words.has(name)));

/**
 * The exports that no other file imports, as `path name`. For a value of src it must be a file of src or scripts; for a type, or what tests and
 * scripts export, any file. Files in JavaScript are left out: jest and npm load them by name.
 */
function unimported(modules: readonly Module[]): string[] {
  const program = modules.filter(({ path }) => !path.startsWith('test/'));
  return modules
    .filter(({ path }) => path.endsWith('.ts') && !ENTRY_POINTS.has(path))
    .flatMap(({ path, exported, types }) =>
      exported
        .filter((name) => {
          const importers = path.startsWith('src/') && !types.has(name) ? program : modules;
          return !importers.some((module) => importsIt(module, path, name));
        })
        .map((name) => `${path} ${name}`),
    );
}

const modules = ['src', 'test', 'scripts'].flatMap((top) =>
  readdirSync(join(ROOT, top), { recursive: true, encoding: 'utf8' })
    .filter((path) => /(?<!\.d)\.(?:ts|mjs)$/.test(path))
    .map((path) => read(join(top, path), readFileSync(join(ROOT, top, path), 'utf8'))),
);
const forTests = Object.entries(FOR_TESTS).flatMap(([path, names]) => names.map((name) => `${path} ${name}`));

test('nothing is exported that no other file imports', () => {
  expect(unimported(modules).filter((one) => !forTests.includes(one))).toEqual([]);
});

test('what is exported for tests alone is imported by a test, and by nothing else', () => {
  const tests = modules.filter(({ path }) => path.startsWith('test/'));
  const untested = forTests.filter((one) => {
    const [path = '', name = ''] = one.split(' ');
    return !tests.some((module) => importsIt(module, path, name));
  });
  expect(untested).toEqual([]);
  expect(forTests.filter((one) => !unimported(modules).includes(one))).toEqual([]);
});

test.each([
  [`export const a = 1;`, `import { b } from './a.ts';`, ['a']],
  [`export function a() {}`, `// import { a } from './a.ts'`, ['a']],
  [`export interface A {}\nexport type B = A;`, `import type { B } from './a.ts';`, ['A']],
  [`const a = 1;\nexport { a as b };`, `import { a } from './a.ts';`, ['b']],
  [`export const [a, { b }] = x;`, `import { a as b } from './a.ts';`, ['b']],
  [`export const a = 1, b = 2;`, `const { a } = await import('./a.ts');`, ['b']],
  [`export class A {}`, `type A = import('./a.ts').A;`, []],
  [`export class A {}`, `import * as all from './a.ts';\nnew all.A();`, []],
  [`export const a = 1;`, `export { a } from './a.ts';`, ['b.ts a']],
  [`export const a = 1;`, `import { a } from './c.ts';`, ['a']],
  [`export default 1;`, `import a from './a.ts';`, ['default']],
])('the test itself sees %j beside %j', (a, b, unused) => {
  const found = unimported([read('src/x/a.ts', a), read('src/x/b.ts', b)]);
  expect(found).toEqual(unused.map((one) => (one.includes(' ') ? `src/x/${one}` : `src/x/a.ts ${one}`)));
});

test('the test itself lets a test import types, and values only if they are listed', () => {
  const exporting = read('src/x/a.ts', 'export const a = 1;\nexport interface B {}\nexport type C = B;');
  const importing = read('test/x/a.test.ts', `import { a, type B } from '../../src/x/a.ts';`);
  expect(unimported([exporting, importing])).toEqual(['src/x/a.ts a', 'src/x/a.ts C']);
});
