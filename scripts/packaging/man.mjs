/**
 * Prints the manual page restic-gateway(1), made from what each command says to --help, so that the two cannot differ.
 * Build first; then: node scripts/packaging/man.mjs > restic-gateway.1
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('../../bin/restic-gateway', import.meta.url));

/** What the program prints; narrow enough for the indent of a manual page on a terminal of 80 columns. */
function ask(...args) {
  const env = { ...process.env, COLUMNS: '70', LC_ALL: 'C.UTF-8' };
  return execFileSync(process.execPath, [PROGRAM, ...args], { encoding: 'utf8', env, timeout: 60_000 }).trimEnd();
}

/** The commands that a help text lists, as words after the program's name. */
function commandsIn(help) {
  const [, list = ''] = /^Commands:\n((?: .*\n?)+)/m.exec(help) ?? [];
  return [...list.matchAll(/^ {2}([a-z][a-z-]*)/gm)].map(([, word]) => word);
}

/** Each command below `words` with its help, those with commands of their own before these. */
function chapters(words) {
  const help = ask(...words, '--help');
  const below = commandsIn(help).map((word) => [...words, word]);
  return [...(words.length === 0 ? [] : [{ words, help }]), ...below.flatMap(chapters)];
}

const escape = (text) =>
  text.replace(/\\/g, '\\e').replace(/-/g, '\\-').replace(/'/g, '\\(aq').replace(/^\./gm, '\\&.');

const help = ask('--help');
const [, summary = ''] = help.split('\n\n');
const version = ask('--version');
const page = [
  `.TH RESTIC\\-GATEWAY 1 "" "restic\\-gateway ${escape(version)}" "User Commands"`,
  '.SH NAME',
  'restic\\-gateway \\- append\\-only gateway between restic clients and their storage',
  '.SH SYNOPSIS',
  '.B restic\\-gateway',
  '.I COMMAND',
  '.RI [ OPTIONS ]',
  '.SH DESCRIPTION',
  escape(summary),
  '.SH COMMANDS',
  ...chapters([]).flatMap(({ words, help: text }) => [`.SS ${escape(words.join(' '))}`, '.EX', escape(text), '.EE']),
  '.SH EXIT STATUS',
  escape('0: good. 1: it failed. 2: wrong use or config.'),
  '.SH ENVIRONMENT',
  '.TP\n.B RESTIC_GATEWAY_CONFIG\nThe config file, where \\-c names none.',
  '.TP\n.B NO_COLOR\nIf not empty, nothing is printed in colours.',
  '.SH FILES',
  '.I /etc/restic\\-gateway/gateway.yaml',
  '.SH SEE ALSO',
  '.BR restic (1),',
  '.BR sshd (8)',
];
process.stdout.write(`${page.join('\n')}\n`);
