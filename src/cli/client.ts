/** The subcommands of `client` and their options, as `--help` shows them. */
import type { Argv } from 'yargs';

/** Runs a command and keeps its exit status. */
export type Run = (work: () => Promise<number>) => () => Promise<void>;

/** Adds the subcommands. @param run - runs one and keeps its exit status */
export function clientCommands(yargs: Argv<{ config: string | undefined }>, run: Run) {
  const load = () => import('./client/run.ts');
  return yargs
    .option('json', { type: 'boolean', default: false, describe: 'print JSON' })
    .option('quiet', { alias: 'q', type: 'boolean', default: false, describe: 'print nothing but errors' })
    .command(
      'add <name> [key]',
      'add a client by its public key, and print what its machine needs',
      (command) => addOptions(command),
      ({
        access,
        from,
        expires,
        expectEvery,
        maxSessions,
        addKeys,
        shared,
        key,
        keyFile,
        out,
        store,
        prefix,
        host,
        ...rest
      }) => {
        const settings = {
          ...(access !== undefined && { access }),
          ...(addKeys === true && { addKeys: 'true' }),
          ...(shared === true && { shared: 'true' }),
          ...(maxSessions !== undefined && { maxSessions }),
          ...(from !== undefined && { from }),
          ...(expires !== undefined && { expires }),
          ...(expectEvery !== undefined && { expectEvery }),
        };
        return run(async () =>
          (await load()).addClient({ ...rest, key, keyFile, out, store, prefix, host, settings }),
        )();
      },
    )
    .command(
      'list',
      'list all clients',
      (command) => command,
      (options) => run(async () => (await load()).listClients(options))(),
    )
    .command(
      'show <name>',
      'show one client',
      (command) => named(command),
      ({ name, ...options }) => run(async () => (await load()).showClient(options, name))(),
    )
    .command(
      'disable <name>',
      'let a client in no more, and end its sessions',
      (command) => named(command),
      ({ name, ...options }) => run(async () => (await load()).changeClient(options, name, { do: 'disable' }))(),
    )
    .command(
      'enable <name>',
      'let a disabled client in again',
      (command) => named(command),
      ({ name, ...options }) => run(async () => (await load()).changeClient(options, name, { do: 'enable' }))(),
    )
    .command(
      'rename <name> <to>',
      'give a client another name; its data stay where they are',
      (command) => named(command).positional('to', { type: 'string', demandOption: true, describe: 'the new name' }),
      ({ name, to, ...options }) => run(async () => (await load()).changeClient(options, name, { do: 'rename', to }))(),
    )
    .command(
      'add-key <name> [key]',
      'add another key to a client, as when keys are changed',
      (command) => keyOptions(named(command)),
      ({ key, keyFile, out, ...options }) =>
        run(async () => (await load()).addKey({ ...options, key, keyFile, out }))(),
    )
    .command(
      'remove-key <name> <key>',
      'remove one of several keys',
      (command) =>
        named(command).positional('key', {
          type: 'string',
          demandOption: true,
          describe: 'its fingerprint, its comment, or the whole line',
        }),
      ({ name, key, ...options }) =>
        run(async () => (await load()).changeClient(options, name, { do: 'remove-key', key }))(),
    )
    .command(
      'remove <name>',
      'remove a client from the config; its data stay',
      (command) => named(command),
      ({ name, ...options }) => run(async () => (await load()).changeClient(options, name, { do: 'remove' }))(),
    )
    .command(
      'hold <name>',
      'legal hold, under Object Lock: nobody can remove what is in its repository now, until client release',
      (command) => legalHoldOptions(command),
      (given) => run(async () => (await import('./client/legal-hold.ts')).runLegalHold(given, 'hold'))(),
    )
    .command(
      'release <name>',
      'end the legal hold of all that is in its repository, or was',
      (command) => legalHoldOptions(command),
      (given) => run(async () => (await import('./client/legal-hold.ts')).runLegalHold(given, 'release'))(),
    )
    .demandCommand(1, 'say what to do with clients; client --help lists it');
}

function named<T>(command: Argv<T>) {
  return command.positional('name', { type: 'string', demandOption: true, describe: 'name of the client' });
}

function legalHoldOptions<T>(command: Argv<T>) {
  return named(command).option('rate', {
    type: 'string',
    requiresArg: true,
    describe: 'the most objects a second, such as 100/s',
  });
}

function keyOptions<T>(command: Argv<T>) {
  return command
    .positional('key', { type: 'string', describe: 'public key in quotes; - or nothing: read it from stdin' })
    .option('key-file', { type: 'string', requiresArg: true, describe: 'read the public key from a file' })
    .option('generate', { type: 'boolean', default: false, describe: 'make a key pair to hand over' })
    .option('out', {
      type: 'string',
      requiresArg: true,
      describe: 'where --generate writes; ./NAME_ed25519 by default',
    });
}

/** The options of `client add`. */
function addOptions<T>(command: Argv<T>) {
  return keyOptions(named(command))
    .option('store', {
      type: 'string',
      requiresArg: true,
      describe: 'store of its repository; the only one by default',
    })
    .option('prefix', { type: 'string', requiresArg: true, describe: 'path in the store; its name by default' })
    .option('access', { choices: ['append-only', 'read-only', 'full'], describe: 'append-only by default' })
    .option('from', {
      type: 'string',
      array: true,
      nargs: 1,
      describe: 'addresses it may come from; may be repeated',
    })
    .option('expires', { type: 'string', requiresArg: true, describe: 'the last day on which its keys work' })
    .option('expect-every', {
      type: 'string',
      requiresArg: true,
      describe: 'late when no snapshot came for so long, such as 26h',
    })
    .option('max-sessions', { type: 'string', requiresArg: true, describe: 'sessions at once' })
    .option('add-keys', { type: 'boolean', describe: 'it may add repository passwords after init' })
    .option('shared', { type: 'boolean', describe: 'others may have the same repository' })
    .option('host', {
      type: 'string',
      requiresArg: true,
      describe: 'NAME[:PORT] by which clients reach the gateway; `listen` by default',
    });
}
