/**
 * Prints a manual page: restic-gateway(1), made from what each command says to --help, or gateway.yaml(5), made from docs/reference.md, which
 * tests hold to the schema. So the pages cannot say anything else.
 * Build first; then: node scripts/packaging/man.mjs restic-gateway.1 or gateway.yaml.5
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { argument, blocks, bold, cells, inline, plain, verbatim } from './roff.mjs';

const PROGRAM = fileURLToPath(new URL('../../bin/restic-gateway', import.meta.url));
const REFERENCE = readFileSync(new URL('../../docs/reference.md', import.meta.url), 'utf8');

/** What the program prints. */
function ask(...args) {
  const env = { ...process.env, COLUMNS: '100', LC_ALL: 'C.UTF-8' };
  return execFileSync(process.execPath, [PROGRAM, ...args], { encoding: 'utf8', env, timeout: 60_000 }).trimEnd();
}

/** A help text by its parts: the line of usage, paragraphs, and what stands below each title. */
function read(help) {
  const [usage = '', ...parts] = help.split('\n\n');
  const titled = parts.filter((part) => /^[A-Z][\w ]*:\n {2}/.test(part)).map((part) => part.split(/:\n([^]*)/));
  return {
    usage: usage.replace(/^usage: /, '').replace(/\s+/g, ' '),
    about: parts[0] ?? '',
    sections: Object.fromEntries(titled.map(([title, body]) => [title, body])),
  };
}

/** Names with what they mean, from two columns; what goes on in a further line has the indent of the second one. */
function rows(body = '') {
  const found = [];
  for (const line of body.split('\n')) {
    const [, name, about = ''] = /^ {2,6}(\S.*?)(?: {2,}(\S.*))?$/.exec(line) ?? [];
    if (name !== undefined && !/^ {8}/.test(line)) found.push([name, about]);
    else if (found.length > 0) found.at(-1)[1] = `${found.at(-1)[1]} ${line.trim()}`.trim();
  }
  return found;
}

const tagged = (body) => rows(body).flatMap(([name, about]) => ['.TP', bold(name), plain(about)]);

/** Lines of examples, each with what it does below. */
function examples(body = '') {
  const out = [];
  for (const line of body.split('\n')) {
    const isCommand = /^ {2}\S/.test(line);
    if (isCommand) out.push('.TP', bold(line.trim()));
    else out.push(plain(line.trim()));
  }
  return body === '' ? [] : ['.PP', 'Examples:', ...out];
}

/** Each command below `words`, those with commands of their own before these. */
function chapters(words) {
  const { usage, about, sections } = read(ask(...words, '--help'));
  const below = rows(sections['Commands']).flatMap(([word]) => chapters([...words, word]));
  if (words.length === 0) return below;
  return [
    ...[`.SS ${argument(words.join(' '))}`, bold(usage), '.PP', ...about.split('\n').map(plain)],
    ...[...tagged(sections['Words']), ...tagged(sections['Options']), ...examples(sections['Examples']), ...below],
  ];
}

/** A chapter of the reference, without its title and what is below it. */
function chapter(title) {
  const [, text] = REFERENCE.split(new RegExp(`^#+ ${title}\n`, 'm'));
  if (text === undefined) throw new Error(`docs/reference.md has no chapter ${title}`);
  return text.split(/^#+ /m)[0].trim();
}

/** Names and commands stay whole: people search for them, and copy them. */
const titleOf = (name, section, manual) =>
  `.TH ${argument(name)} ${section} "" ${argument(`restic-gateway ${ask('--version')}`)} ${argument(manual)}\n.nh\n.ad l`;

const seeAlso = (...lines) => [
  ...['.SH SEE ALSO', ...lines, '.PP'],
  plain('The whole documentation is in /usr/share/doc/restic-gateway/docs; begin with README.md there.'),
];

function commandPage() {
  const { about, sections } = read(ask('--help'));
  return [
    titleOf('RESTIC-GATEWAY', 1, 'User Commands'),
    ...['.SH NAME', 'restic\\-gateway \\- append\\-only gateway between restic clients and their storage'],
    ...['.SH SYNOPSIS', '.B restic\\-gateway', '.I COMMAND', '.RI [ OPTIONS ]'],
    ...['.SH DESCRIPTION', plain(about), '.PP'],
    plain(
      'Clients connect by SSH, each with a key of its own, which opens one repository: they can add backups and read them, and neither change nor remove them.',
    ),
    plain(
      'The admin does the rest on the gateway host, with the commands below, as root or as the user of the gateway.',
    ),
    ...['.SH OPTIONS', 'Of every command:', ...tagged(sections['Options of every command'])],
    ...['.SH COMMANDS', ...chapters([])],
    ...['.SH EXIT STATUS', ...blocks(chapter('Exit statuses'))],
    '.SH ENVIRONMENT',
    ...cells(chapter('The environment')).flatMap(([name, who, about]) => [
      ...['.TP', inline(name), `${inline(about)} (${inline(who)})`],
    ]),
    ...['.SH FILES', '.TP', bold('/etc/restic-gateway/gateway.yaml'), 'The config: gateway.yaml(5).'],
    ...['.TP', bold('/var/log/restic-gateway/audit.jsonl'), 'The audit log, unless the config names another file.'],
    ...seeAlso('.BR gateway.yaml (5),', '.BR restic (1),', '.BR sshd (8)'),
  ];
}

/** A line of YAML with a comment that makes it too long for a terminal, in two. */
function folded(line) {
  const [, indent, code, comment] = /^(\s*)(\S.*?) (# .*)$/.exec(line) ?? [];
  return comment === undefined || line.length <= 70 ? [line] : [`${indent}${comment}`, `${indent}${code}`];
}

function configPage() {
  const [about, rest = ''] = chapter('The config').split(/^<!-- the keys.*$/m);
  const keys = [];
  let group;
  for (const [key, form, fallback, what] of cells(rest)) {
    const [top] = key.replaceAll('`', '').split('.');
    if (top !== group) keys.push(`.SS ${argument(top)}`);
    group = top;
    const takes = form === 'section' ? '' : ` (${form.replace(/^list: /, 'a list: ')})`;
    const otherwise = fallback === '' ? '' : ` Default: ${fallback}.`;
    keys.push(
      '.TP',
      `${inline(key)}${inline(takes)}`,
      inline(`${what === '' ? '' : `${what}.`}${otherwise}`.trim()) || '\\&',
    );
  }
  const [, example = ''] = /^```yaml\n([^]*?)^```/m.exec(chapter('A complete file')) ?? [];
  return [
    titleOf('GATEWAY.YAML', 5, 'File Formats'),
    ...['.SH NAME', 'gateway.yaml \\- config of restic\\-gateway'],
    ...['.SH SYNOPSIS', '.I /etc/restic\\-gateway/gateway.yaml'],
    ...['.SH DESCRIPTION', ...blocks(about)],
    ...['.SH KEYS', plain('NAME stands for the name of a store or a client.'), ...keys],
    ...['.SH EXAMPLE', 'A complete file:', '.PP', ...verbatim(example.trimEnd().split('\n').flatMap(folded))],
    ...['.SH OWNERS AND MODES', ...blocks(chapter('Who must own the files')), ...blocks(chapter('root and the user'))],
    ...seeAlso('.BR restic\\-gateway (1)'),
  ];
}

const PAGES = { 'restic-gateway.1': commandPage, 'gateway.yaml.5': configPage };
const page = PAGES[process.argv[2] ?? ''];
if (page === undefined) {
  process.stderr.write(`usage: node scripts/packaging/man.mjs ${Object.keys(PAGES).join('|')}\n`);
  process.exit(2);
}
process.stdout.write(`${page().join('\n')}\n`);
