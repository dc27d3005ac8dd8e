/** The subcommands of `client` and their options. */
import { clientKeys, type Changes, type ClientKey, type Setting } from '../config/client-keys.ts';
import { command, flag, group, text, type Command, type OptionSpec } from './command-line/command.ts';

const load = () => import('./client/run.ts');

const NAME = { takes: 'one', about: 'name of the client', kind: 'client' } as const;
const KEY = { takes: 'optional', about: 'public key in quotes; - or nothing: read it from stdin' } as const;

const KEY_OPTIONS = {
  'key-file': text('FILE', 'read the public key from a file', 'file'),
  generate: flag('make a key pair to hand over'),
  out: text(
    'FILE',
    'where --generate writes the private key, and FILE.pub beside it; NAME_ed25519 in the working directory by default',
    'file',
  ),
} as const;

const RATE = text('RATE', 'the most objects a second, such as 100/s');

const OPTIONS = {
  json: flag('print JSON: one object a line'),
  quiet: { ...flag('print nothing but errors'), short: 'q' },
} as const;

const EXISTING = flag('the client is meant to have the repository that is in its place already');

/** The keys of a client's entry as options: `--bandwidth-upload`. Who it is and where its repository is have options of their own. */
const ENTRY_KEYS = clientKeys().flatMap((key) =>
  key.path[0] === 'keys' || key.path[0] === 'repository'
    ? []
    : { ...key, option: key.path.join('-').replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`) },
);

function entryOption({ takes, words, about }: ClientKey): OptionSpec {
  if (takes === 'boolean') return flag(about);
  return takes === 'list' ? { type: 'list', value: 'VALUE', about } : text('VALUE', about, words);
}

const ENTRY_OPTIONS: Readonly<Record<string, OptionSpec>> = Object.fromEntries(
  ENTRY_KEYS.map((key) => [key.option, entryOption(key)]),
);

/** What was given of them, as it is to stand in the entry. */
function settingsOf(given: Readonly<Record<string, unknown>>): Changes {
  const settings = new Map<string, Setting>();
  for (const { path, takes, option } of ENTRY_KEYS) {
    const value = given[option.replace(/-([a-z])/g, (_all, letter: string) => letter.toUpperCase())];
    if (takes === 'boolean' && value === true) settings.set(path.join('.'), 'true');
    if (takes === 'list' && Array.isArray(value) && value.length > 0) settings.set(path.join('.'), value as string[]);
    if (takes === 'value' && typeof value === 'string') settings.set(path.join('.'), value);
  }
  return settings;
}

const add = command({
  name: 'add',
  about: 'add a client by its public key, and print what its machine needs',
  positionals: { name: { takes: 'one', about: 'name of the client' }, key: KEY },
  options: {
    ...KEY_OPTIONS,
    store: text('NAME', 'store of its repository; the only one by default', 'store'),
    prefix: text('PATH', 'path in the store; its name by default'),
    existing: EXISTING,
    host: text('NAME[:PORT]', 'by which clients reach the gateway; listen of the config by default'),
    ...OPTIONS,
    ...ENTRY_OPTIONS,
  },
  examples: [
    ['client add appsrv --generate --host backup.example.com', 'makes its key pair here'],
    ['client add appsrv --key-file appsrv.pub', 'by a key that was made on the client'],
  ],
  run: async (given) => (await load()).addClient({ ...given, settings: settingsOf({ ...given }) }),
});

const apply = command({
  name: 'apply',
  about: 'add and change many clients at once, as a file says them; all of it is written, or nothing',
  more: 'The file has a clients block as gateway.yaml(5) has it, in YAML or JSON, such as client export prints. Clients that it does not name stay as they are, unless --prune. The id of a client and that it is disabled stay, unless the file says otherwise. Applied again, it changes nothing.',
  options: {
    file: { ...text('FILE', 'the clients; - for stdin', 'file'), short: 'f', required: true },
    prune: flag('remove the clients that the file does not name; their data stay'),
    'dry-run': { ...flag('change nothing, and show what would be done'), short: 'n' },
    ...OPTIONS,
  },
  examples: [
    ['client apply -f clients.yaml --dry-run', 'shows the difference'],
    ['client apply -f clients.yaml --prune', 'these clients, and no others'],
  ],
  run: async (given) => (await import('./client/apply.ts')).runApply(given),
});

const exportClients = command({
  name: 'export',
  about: 'print clients as client apply takes them, for another gateway or a change of many',
  options: {
    client: { type: 'list', value: 'NAME', about: 'only this one, and again for others', kind: 'client' },
    json: OPTIONS.json,
  },
  examples: [
    ['client export >clients.yaml', 'all clients'],
    ['client export --client appsrv --json', 'one, as JSON'],
  ],
  run: async (given) => (await import('./client/apply.ts')).runExport(given),
});

/** The commands on the config's clients. */
export function clientCommands(): Command {
  return group({
    name: 'client',
    about: 'add, show and change clients in the config',
    examples: [],
    commands: [
      add,
      command({
        name: 'list',
        about: 'list all clients',
        options: OPTIONS,
        examples: [['client list', 'their names, keys and repositories']],
        run: async (given) => (await load()).listClients(given),
      }),
      command({
        name: 'show',
        about: 'show one client',
        positionals: { name: NAME },
        options: OPTIONS,
        examples: [['client show appsrv', 'what the config says of it']],
        run: async ({ name, ...options }) => (await load()).showClient(options, name),
      }),
      command({
        name: 'set',
        about: 'change keys of a client: set NAME KEY=VALUE…; nothing after = removes the key',
        more: 'The keys are those of an entry below clients in gateway.yaml(5); bandwidth.upload is the key upload of bandwidth. Several values of a list are given with commas between.',
        positionals: {
          name: NAME,
          changes: { takes: 'rest', about: 'what is to be: quota=500GiB from=10.0.0.0/8,10.1.0.0/16' },
        },
        options: { existing: EXISTING, ...OPTIONS },
        examples: [
          ['client set appsrv quota=500GiB bandwidth.upload=20MiB/s', 'how much it may store, and how fast'],
          ['client set appsrv expectEvery=', 'goes by what is usual again'],
        ],
        run: async (given) => (await load()).setClient(given),
      }),
      command({
        name: 'disable',
        about: 'let a client in no more, and end its sessions',
        positionals: { name: NAME },
        options: OPTIONS,
        examples: [['client disable appsrv', 'for example because its key was stolen']],
        run: async ({ name, ...options }) => (await load()).changeClient(options, name, { do: 'disable' }),
      }),
      command({
        name: 'enable',
        about: 'let a disabled client in again',
        positionals: { name: NAME },
        options: OPTIONS,
        examples: [['client enable appsrv', 'its keys work again']],
        run: async ({ name, ...options }) => (await load()).changeClient(options, name, { do: 'enable' }),
      }),
      command({
        name: 'rename',
        about: 'give a client another name; its data stay where they are',
        positionals: { name: NAME, to: { takes: 'one', about: 'the new name' } },
        options: OPTIONS,
        examples: [['client rename appsrv web1', 'its keys and its repository stay']],
        run: async ({ name, to, ...options }) => (await load()).changeClient(options, name, { do: 'rename', to }),
      }),
      command({
        name: 'add-key',
        about: 'add another key to a client, as when keys are changed',
        positionals: { name: NAME, key: KEY },
        options: { ...KEY_OPTIONS, ...OPTIONS },
        examples: [['client add-key appsrv --key-file new.pub', 'both keys work until one is removed']],
        run: async (given) => (await load()).addKey(given),
      }),
      command({
        name: 'remove-key',
        about: 'remove one of several keys',
        positionals: {
          name: NAME,
          key: { takes: 'one', about: 'its fingerprint, its comment, or the whole line', kind: 'fingerprint' },
        },
        options: OPTIONS,
        examples: [['client remove-key appsrv old-laptop', 'by the comment of the key']],
        run: async ({ name, key, ...options }) => (await load()).changeClient(options, name, { do: 'remove-key', key }),
      }),
      command({
        name: 'remove',
        about: 'remove a client from the config; its data stay',
        positionals: { name: NAME },
        options: OPTIONS,
        examples: [['client remove appsrv', 'its repository stays in the store']],
        run: async ({ name, ...options }) => (await load()).changeClient(options, name, { do: 'remove' }),
      }),
      apply,
      exportClients,
      command({
        name: 'hold',
        about: 'legal hold, under Object Lock: nobody can remove what is in its repository now, until client release',
        positionals: { name: NAME },
        options: { rate: RATE, ...OPTIONS },
        examples: [['client hold appsrv', 'all that it has stored']],
        run: async (given) => (await import('./client/legal-hold.ts')).runLegalHold(given, 'hold'),
      }),
      command({
        name: 'release',
        about: 'end the legal hold of all that is in its repository, or was',
        positionals: { name: NAME },
        options: { rate: RATE, ...OPTIONS },
        examples: [['client release appsrv', 'all that was held']],
        run: async (given) => (await import('./client/legal-hold.ts')).runLegalHold(given, 'release'),
      }),
    ],
  });
}
