/** The commands and their options, as `--help` shows them. */
import yargs, { type Argv, type CommandModule } from 'yargs';
import { didYouMean } from '../config/problems.ts';
import { GatewayError } from '../core/errors.ts';
import { clientCommands, type Run } from './client.ts';
import { VERSION } from './version.ts';

/** For timers, whose mail should have something to say. */
const QUIET = { ...flag('print nothing when everything is OK'), alias: 'q' } as const;
const CLIENT = { type: 'string', demandOption: true, describe: 'name of the client in the config' } as const;

/** An option that is given or not. */
function flag(describe: string) {
  return { type: 'boolean', default: false, describe } as const;
}

/** An option with a value. */
function text(describe: string) {
  return { type: 'string', requiresArg: true, describe } as const;
}

/**
 * Runs one command line.
 * @returns the exit status
 * @throws GatewayError `usage` for a command line that is not understood, and whatever the command throws
 */
export async function runCommand(argv: readonly string[]): Promise<number> {
  let status = 0;
  // What stands after -- is another program's, and none of ours to parse.
  const end = argv.indexOf('--');
  const own = end < 0 ? argv : argv.slice(0, end);
  const passedOn = end < 0 ? [] : argv.slice(end + 1);
  const run = (work: () => Promise<number>) => async (): Promise<void> => {
    status = await work();
  };
  await yargs([...own])
    .scriptName('restic-gateway')
    .usage('$0 COMMAND\n\nAn append-only gateway between restic clients and the storage of their backups.')
    .option('config', {
      alias: 'c',
      type: 'string',
      requiresArg: true,
      describe:
        'config file; else $RESTIC_GATEWAY_CONFIG, ./gateway.yaml (not for root), /etc/restic-gateway/gateway.yaml',
    })
    .command(
      'serve',
      'serve restic clients over SSH, until stopped',
      (command) => command,
      ({ config }) => run(async () => (await import('./serve.ts')).runServe({ config }))(),
    )
    .command(
      'check',
      'check the config, host keys and secrets, as serve would read them',
      (command) =>
        command
          .option('live', flag('try every store too, with small objects'))
          .option('json', flag('for scripts'))
          .option('quiet', QUIET),
      (given) => run(async () => (await import('./check.ts')).runCheck(given))(),
    )
    .command(
      'init',
      'write a first config, host key and directories, and try the store',
      (command) => initOptions(command),
      ({ config, s3, dir, endpoint, region, accessKeyId, secretAccessKeyFile, listen, user, quiet }) => {
        const store = { s3, dir, endpoint, region, accessKeyId, secretAccessKeyFile };
        return run(async () => (await import('./init.ts')).runInit({ config, ...store, listen, user, quiet }))();
      },
    )
    .command('client', 'add, show and change clients in the config', (command) => clientCommands(command, run))
    .command(
      'probe <host>',
      'as a client over SSH: try to overwrite, delete and escape, and say what held',
      (command) => probeOptions(command),
      (given) => run(async () => (await import('./probe.ts')).runProbe(given))(),
    )
    .command(
      'restic <client>',
      "run the local restic with full access to a client's repository: restic CLIENT -- ARGS",
      (command) => resticOptions(command),
      ({ config, client, holdClient, endSessions, overrideProtect }) => {
        // What yargs makes of --no-hold-client, other than its types say.
        const wait = holdClient as string | false | undefined;
        const options = { holdClient: wait, endSessions, overrideProtect };
        return run(async () =>
          (await import('./restic.ts')).runRestic({ config, client, args: passedOn, ...options }),
        )();
      },
    )
    .command(
      'forget [client]',
      'remove the snapshots that the retention of the config does not keep, by when they arrived, and prune',
      (command) => forgetOptions(command),
      (given) => run(async () => (await import('./forget.ts')).runForget(given))(),
    )
    .command(snapshotRecords(run))
    .command(
      'scrub [client]',
      "read every object of a client's repository and check it against its name",
      (command) => scrubOptions(command),
      (given) => run(async () => (await import('./scrub.ts')).runScrub(given))(),
    )
    .command(
      'extend [client]',
      "Object Lock: renew the retention of what is still in a client's repository; for a timer",
      (command) => extendOptions(command),
      (given) => run(async () => (await import('./extend.ts')).runExtend(given))(),
    )
    .command(
      'undo <client>',
      'take back what sessions of a client added: shows it, and with --yes moves it into quarantine',
      (command) => undoOptions(command),
      (given) => run(async () => (await import('./undo.ts')).runUndo(given))(),
    )
    .command('trash', 'what was removed, and how it comes back', (command) => trashCommands(command, run))
    .command(
      'status [client]',
      "whether every client's backup is OK; ends with 1 when one is not",
      (command) => statusOptions(command),
      (given) => run(async () => (await import('./status.ts')).runStatus(given))(),
    )
    .command(
      'sessions',
      'the newest sessions and what they did, the latest last',
      (command) => selecting(command),
      (given) => run(async () => (await import('./audit-show.ts')).runSessions(given))(),
    )
    .command('audit', 'look into the audit: audit show, audit verify; audit copy', (command) =>
      auditCommands(command, run),
    )
    .command('authorized-keys', "print authorized_keys lines for sshd's AuthorizedKeysCommand [--type %t --key %k]")
    .command('stdio <client>', 'serve one client on stdin and stdout: the forced command under OpenSSH')
    .completion('completion', 'print a completion script for bash or zsh (by $SHELL): source it from ~/.bashrc')
    .version(VERSION)
    .demandCommand(1, 'say which command; --help lists them')
    .recommendCommands()
    .strict()
    .exitProcess(false)
    .wrap(Math.min(100, process.stdout.columns || Number(process.env['COLUMNS']) || 100))
    .fail((message, error: Error | undefined, usage) => {
      // What the parser itself throws has that name; the rest is a command's.
      if (error !== undefined && error.name !== 'YError') throw error;
      throw new GatewayError('usage', { detail: inOurWords(error?.message ?? message, () => String(usage.help())) });
    })
    .parseAsync();
  return status;
}

/** The options by which events and sessions of the audit are chosen. */
function selecting<T>(command: Argv<T>) {
  return command
    .option('client', text("one client's"))
    .option('session', text('one session, by its id'))
    .option('since', text('from then on: 2h, 7d, yesterday, 2026-11-25T18:00Z'))
    .option('until', text('up to then'))
    .option('limit', { type: 'number', default: 100, requiresArg: true, describe: 'how many at most' })
    .option('json', flag('one JSON object a line'));
}

/** What the parser has to say about a command line, with what was most likely meant. @param help - of the command that was called */
function inOurWords(message: string, help: () => string): string {
  const [, unknown] = /^Unknown arguments?: (.+)$/.exec(message) ?? [];
  if (unknown !== undefined) {
    const options = [...help().matchAll(/--([a-z][a-z-]*)/g)].map(([, name = '']) => name);
    const [first = ''] = unknown.split(', ');
    return `${first} is not an option or word of this command${didYouMean(first, options)}; --help shows them`;
  }
  if (message.startsWith('Not enough non-option arguments')) return 'a word is missing; --help shows which';
  if (message.startsWith('Not enough arguments following'))
    return `${message.replace('Not enough arguments following:', 'a value is missing after')}; --help shows which`;
  return message;
}

function initOptions<T>(command: Argv<T>) {
  return command
    .option('s3', text('name of an S3 bucket to store backups in'))
    .option('endpoint', text("URL of the S3 server; AWS's unless given"))
    .option('region', text('region of the bucket; needed for AWS'))
    .option('access-key-id', text("key id for the bucket; the machine's own credentials unless given"))
    .option('secret-access-key-file', text('file that holds the secret of the key id, chmod 600'))
    .option('dir', text('a directory of this machine to store backups in'))
    .option('listen', text('HOST:PORT to serve on; 0.0.0.0:2222 unless given'))
    .option('user', text('the user that the gateway runs as; restic-gateway where that is there'))
    .option('quiet', { ...flag('print nothing but errors'), alias: 'q' });
}

function probeOptions<T>(command: Argv<T>) {
  return command
    .positional('host', {
      type: 'string',
      demandOption: true,
      describe: 'HOST, HOST:PORT or [IPV6]:PORT; port 22 unless given',
    })
    .option('identity', { ...text("the client's private key"), alias: 'i', demandOption: true })
    .option('second-key', text("a key of another client of the repository, to try another's lock"))
    .option('known-hosts', text('where the host key is; ~/.ssh/known_hosts unless given'))
    .option('host-key', text('the fingerprint of the host key instead: SHA256:…'))
    .option('user', text('user to log in as; this one unless given'))
    .option('timeout', { type: 'number', default: 30, requiresArg: true, describe: 'seconds for each step' })
    .option('json', flag('one JSON document'));
}

function resticOptions<T>(command: Argv<T>) {
  return command
    .positional('client', CLIENT)
    .option('hold-client', {
      type: 'string',
      describe:
        'hold new runs of the client back meanwhile, and wait so long for those that hold a lock (10min unless given); done by itself for restic commands that need the repository alone, unless --no-hold-client',
    })
    .option('end-sessions', flag('after that wait, end the sessions of clients that still hold a lock'))
    .option('override-protect', flag('remove snapshots that are protected, too; the audit log says so'));
}

/** How `forget` does what only the gateway's user may; not for people. */
function snapshotRecords(
  run: Run,
): CommandModule<{ config: string | undefined }, { client: string; config: string | undefined }> {
  return {
    command: 'snapshot-records <client>',
    describe: false,
    builder: (command) => command.positional('client', { type: 'string', demandOption: true }),
    handler: (given) => run(async () => (await import('./snapshot-records.ts')).runSnapshotRecords(given))(),
  };
}

/** The options of `forget`. */
function forgetOptions<T>(command: Argv<T>) {
  const no = { type: 'boolean', default: false } as const;
  return command
    .positional('client', { type: 'string', describe: 'name of the client in the config' })
    .option('all', { ...no, describe: 'the repositories of all clients that have a retention' })
    .option('dry-run', { ...no, alias: 'n', describe: 'show what would be removed, and change nothing' })
    .option('group-by', { type: 'string', describe: 'host, paths, tags, instead of what the config says' })
    .option('accept-time', {
      type: 'string',
      array: true,
      requiresArg: true,
      default: [] as string[],
      describe: 'ids of snapshots that rightly claim another time than they arrived at, or all: an import',
    })
    .option('prune', { type: 'boolean', default: true, describe: 'and remove what nothing uses any more; --no-prune' })
    .option('without-password', { ...no, describe: 'keep or drop whole days, to the trash; nothing is pruned' })
    .option('hold-client', {
      type: 'string',
      describe: 'wait so long for runs that hold a lock (10min unless given), as restic-gateway restic does',
    })
    .option('end-sessions', { ...no, describe: 'after that wait, end the sessions that still hold a lock' })
    .option('json', { ...no, describe: 'one JSON object for each repository' })
    .option('quiet', QUIET);
}

/** The options of `scrub`. */
function scrubOptions<T>(command: Argv<T>) {
  return command
    .positional('client', { type: 'string', describe: 'name of the client in the config' })
    .option('all', flag('the repositories of all clients'))
    .option('quick', flag('by names, sizes and the checksums that the store keeps; reads no content'))
    .option('restart', flag('from the start, not where one was stopped'))
    .option('bandwidth', text('the most to read, such as 50MiB/s'))
    .option('json', flag('one JSON object for each repository'))
    .option('quiet', QUIET);
}

function extendOptions<T>(command: Argv<T>) {
  return command
    .positional('client', { type: 'string', describe: 'name of the client in the config' })
    .option('all', flag('all repositories whose store has objectLock'))
    .option(
      'when-under',
      text('renew what is retained for less than this, such as 10d; half of the days of objectLock unless given'),
    )
    .option('dry-run', flag('change nothing, and say what would be renewed'))
    .option('rate', text('the most objects a second, such as 100/s'))
    .option('json', flag('one JSON object for each repository'))
    .option('quiet', QUIET);
}

function undoOptions<T>(command: Argv<T>) {
  return command
    .positional('client', CLIENT)
    .option('session', text('what this session added'))
    .option('since', text('what came since then: 2h, 2026-11-25T18:00Z'))
    .option('yes', flag('do it'))
    .option('force', flag('even though the client is not disabled'))
    .option('list', flag('show the quarantines of the repository'))
    .option('restore', text('bring back what an undo took; its id'))
    .option('json', flag('print JSON'));
}

/** Adds the subcommands of `trash`. @param run - runs one and keeps its exit status */
function trashCommands(command: Argv<{ config: string | undefined }>, run: Run) {
  return command
    .command(
      'list <client>',
      'what the trash holds, by the session that removed it',
      (sub) => sub.positional('client', CLIENT).option('json', flag('print JSON')),
      (given) => run(async () => (await import('./trash.ts')).runTrashList(given))(),
    )
    .command(
      'restore <client>',
      'bring back what was removed',
      (sub) =>
        sub
          .positional('client', CLIENT)
          .option('since', text('what was removed since then: 2h, 2026-11-25T18:00Z'))
          .option('session', text('what this session removed'))
          .option('all', flag('all of it'))
          .option('json', flag('print JSON')),
      (given) => run(async () => (await import('./trash.ts')).runTrashRestore(given))(),
    )
    .command(
      'purge [client]',
      'remove for good what is older than the trash keeps it; serve does so daily',
      (sub) =>
        sub
          .positional('client', { type: 'string', describe: CLIENT.describe })
          .option('all', flag('the trash of all clients; for a timer'))
          .option('older-than', text("what was removed longer ago than this; the client's `trash` unless given"))
          .option('json', flag('one JSON object for each repository'))
          .option('quiet', QUIET),
      (given) => run(async () => (await import('./trash.ts')).runTrashPurge(given))(),
    )
    .demandCommand(1, 'say what to do with the trash: list, restore or purge')
    .strict();
}

function statusOptions<T>(command: Argv<T>) {
  return command
    .positional('client', { type: 'string', describe: 'all that is known of this one' })
    .option('json', flag('one JSON object for each client'))
    .option('quiet', { ...flag('only those that are not OK; nothing when all are'), alias: 'q' })
    .option('acknowledge', flag('the open anomalies were seen, and are not shown any more'))
    .option('report', flag('write new anomalies into the audit, as serve does; for a timer'));
}

/** Adds the subcommands of `audit`. @param run - runs one and keeps its exit status */
function auditCommands(command: Argv<{ config: string | undefined }>, run: Run) {
  return command
    .command(
      'verify [files..]',
      'whether the audit is as it was written; names the first bad line and ends with 1 when it is not',
      (sub) =>
        sub
          .positional('files', {
            type: 'string',
            array: true,
            default: [] as string[],
            describe: "files to verify instead of the config's",
          })
          .option('copy', flag('against its copy too: shows what root on this host has changed'))
          .option('json', flag('one JSON document'))
          .option('quiet', QUIET),
      (given) => run(async () => (await import('./audit.ts')).runAuditVerify(given))(),
    )
    .command(
      'copy',
      'copy what is new to where audit.copy says; serve does so by itself',
      (sub) => sub.option('quiet', QUIET),
      (given) => run(async () => (await import('./audit.ts')).runAuditCopy(given))(),
    )
    .command(
      'show',
      'the newest events, the latest last',
      (sub) => selecting(sub).option('kind', text('one kind: create, denied, …')),
      (given) => run(async () => (await import('./audit-show.ts')).runAuditShow(given))(),
    )
    .demandCommand(1, 'say what to do with the audit: show, verify or copy')
    .strict();
}
