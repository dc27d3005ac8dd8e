/** `restic-gateway client …`: shows the clients of the config, and changes them in its file. */
import { randomBytes } from 'node:crypto';
import { clientNamed, editClient, loadForChange, type ClientChange } from '../../config/edit-clients.ts';
import { readChanges, type Changes, type Setting } from '../../config/client-keys.ts';
import { fileOfClient, loadConfig } from '../../config/load.ts';
import type { ClientConfig, GatewayConfig } from '../../config/types.ts';
import { GatewayError, messageOf } from '../../core/errors.ts';
import { whoServes } from '../../state/serving.ts';
import { UsageError } from '../command-line/usage-error.ts';
import { jsonLine } from '../json.ts';
import { chooseConfigFile } from '../own-user.ts';
import { refuseInForcedCommand } from '../program.ts';
import { withProgress } from '../progress.ts';
import { printable, table } from '../terminal.ts';
import { lookAtPlace, type Found, type Place } from './place.ts';
import { clientKey, type KeyOptions } from './key-source.ts';
import { clientAddress, clientSetup, setupLines } from './setup-block.ts';

/** Options of every client command. */
interface CommonOptions {
  readonly config: string | undefined;
  readonly json: boolean;
  readonly quiet: boolean;
}

/** What `client add` takes. */
interface AddOptions extends CommonOptions, KeyOptions {
  readonly name: string;
  readonly store: string | undefined;
  readonly prefix: string | undefined;
  /** Name or NAME:PORT by which clients reach the gateway. */
  readonly host: string | undefined;
  /** Further keys of the client's entry. */
  readonly settings: Changes;
  /** It may have what is in its place already, and goes on with that one's history. */
  readonly existing: boolean;
}

/** Adds a client and prints what its machine needs. @returns the exit status */
export async function addClient(options: AddOptions): Promise<number> {
  refuseInForcedCommand();
  const { name, prefix, settings, json, quiet } = options;
  const file = chooseConfigFile(options.config);
  const before = loadConfig(file);
  const store = options.store ?? onlyStore(before);
  // What is wrong with the name or the store is said with the whole file.
  const found =
    before.clients[name] !== undefined || before.stores[store] === undefined
      ? undefined
      : await lookWhatIsThere(before, { store, prefix: prefix ?? name }, options.existing);
  const setup = await clientSetup(before, name, clientAddress(before, options.host));
  const key = clientKey(name, options);
  let config;
  try {
    const client = {
      keys: [key.line],
      store,
      settings: withId(before, name, settings, found),
      ...(prefix !== undefined && { prefix }),
    };
    config = editClient(file, name, { do: 'add', client });
  } catch (error) {
    key.discard();
    throw error;
  }
  const client = clientNamed(config, name);
  if (json) print({ ...described(client), privateKeyFile: key.privateFile, setup });
  else if (!quiet) {
    const { store: where, prefix: path } = client.repository;
    process.stderr.write(
      `added ${name} to ${fileOfClient(config, name)}: ${client.access}, store ${where}, prefix ${path}\n`,
    );
    if (key.privateFile !== undefined)
      process.stderr.write(`its private key is ${key.privateFile}: hand it over, then delete it here\n`);
    if (setup.guessedHost)
      process.stderr.write("the host name below is this machine's own; if clients know it by another, use --host\n");
    process.stdout.write(setupLines(name, setup));
  }
  return 0;
}

/**
 * A client of its own id: its history is not that of another who had its name before, unless the repository is meant to be that one's.
 */
function withId({ clients }: GatewayConfig, name: string, settings: Changes, found: Found | undefined): Changes {
  if (settings.has('id')) return settings;
  const known = Object.values(clients).some(({ id }) => id === found?.id) ? undefined : found?.id;
  const id = known ?? `${name.slice(0, 50)}-${randomBytes(4).toString('hex')}`;
  return id === name ? settings : new Map([['id', id], ...settings]);
}

/**
 * @param existing - it is meant, if there is something
 * @throws GatewayError `usage` when it is not, or when nobody can say
 */
async function lookWhatIsThere(
  { file, clients }: GatewayConfig,
  place: Place,
  existing: boolean,
): Promise<Found | undefined> {
  const where = `store ${place.store} under ${place.prefix === '' ? 'its root' : place.prefix}`;
  const owner = Object.values(clients).find(
    ({ repository: { store, prefix } }) => store === place.store && prefix === place.prefix,
  );
  let found: Found;
  try {
    found = await withProgress(`looking into ${where}`, () => lookAtPlace(file, place));
  } catch (error) {
    if (existing) return undefined;
    throw new UsageError(
      `whether there is a repository in ${where} cannot be seen: ${messageOf(error)}; mend that, or say --existing if the client may have what is there`,
    );
  }
  if (existing || found.there === 'nothing') return found;
  const what = found.there === 'repository' ? 'a repository' : 'something';
  throw new UsageError(
    `there is ${what} in ${where} already${owner === undefined ? '' : `, of client ${owner.name}`}: whoever has this key could read it and add to it; if that is meant, say --existing, else name another place with --prefix`,
  );
}

/** Changes keys of a client. @returns the exit status */
export async function setClient(
  options: CommonOptions & { readonly name: string; readonly changes: readonly string[]; readonly existing: boolean },
): Promise<number> {
  refuseInForcedCommand();
  const { name, existing } = options;
  if (options.changes.length === 0) throw new UsageError('say what to change: KEY=VALUE, such as quota=500GiB');
  const changes = readChanges(options.changes);
  const config = loadConfig(chooseConfigFile(options.config));
  const { repository } = clientNamed(config, name);
  const place = placeAfter(name, repository, changes);
  const isElsewhere = place.store !== repository.store || place.prefix !== repository.prefix;
  if (isElsewhere && config.stores[place.store] !== undefined) await lookWhatIsThere(config, place, existing);
  return changeClient(options, name, { do: 'set', changes });
}

/** Where its repository is after changes. */
function placeAfter(name: string, before: Place, changes: Changes): Place {
  const all = changes.get('repository');
  const section =
    typeof all === 'object' && !Array.isArray(all) ? (all as Readonly<Record<string, Setting>>) : undefined;
  const said = (key: 'store' | 'prefix'): Setting | undefined =>
    section === undefined ? changes.get(`repository.${key}`) : section[key];
  const prefix = section !== undefined || changes.has('repository.prefix') ? (said('prefix') ?? name) : before.prefix;
  const store = said('store') ?? before.store;
  // Whatever else they are is refused with the whole file.
  return {
    store: typeof store === 'string' ? store : before.store,
    prefix: typeof prefix === 'string' ? prefix.replace(/^\/+|\/+$/g, '') : before.prefix,
  };
}

/** Changes a client. @returns the exit status; a promise where other gateways have to be told */
export function changeClient(
  { config: option, json, quiet }: CommonOptions,
  name: string,
  change: ClientChange,
): number | Promise<number> {
  refuseInForcedCommand();
  const file = chooseConfigFile(option);
  const { config: before, leftOut } = loadForChange(file, change);
  const { repository } = clientNamed(before, name);
  if (leftOut.length > 0)
    process.stderr.write(
      `warning: ${leftOut.map((one) => printable(one)).join(', ')}: wrong, see restic-gateway check; until that is put right nothing takes effect but what takes access away\n`,
    );
  const config = editClient(file, name, change);
  const now = change.do === 'rename' ? change.to : name;
  if (json) print(change.do === 'remove' ? { client: name, repository } : described(clientNamed(config, now)));
  else if (!quiet) process.stdout.write(`${said(name, change, repository)}\n`);
  return config.database === undefined ? 0 : tellOthers(config, name, change);
}

/** Where `serve` runs, it tells them within a second. @returns the exit status, which is that of the change */
async function tellOthers(config: GatewayConfig, name: string, { do: what }: ClientChange): Promise<number> {
  const gateways = await import('../gateways.ts');
  if ((await whoServes(config.state, config.file)).length === 0) await gateways.tellOthers(config);
  if (what === 'enable') gateways.warnOfOthers(config, name);
  return 0;
}

/** Adds another key to a client. @returns the exit status */
export function addKey(options: CommonOptions & KeyOptions & { readonly name: string }): number | Promise<number> {
  refuseInForcedCommand();
  const key = clientKey(options.name, options);
  try {
    return changeClient(options, options.name, { do: 'add-key', key: key.line });
  } catch (error) {
    key.discard();
    throw error;
  }
}

/** Lists the clients. @returns the exit status */
export function listClients({ config: option, json }: CommonOptions): number {
  const clients = Object.values(loadConfig(chooseConfigFile(option)).clients);
  if (json) for (const client of clients) print(described(client));
  else
    process.stdout.write(
      table(
        [
          { title: 'CLIENT', cut: { to: 12, at: 'middle' } },
          { title: 'STATE' },
          { title: 'ACCESS' },
          { title: 'STORE', cut: { to: 8, at: 'middle' } },
          { title: 'PREFIX', rank: 2, cut: { to: 12, at: 'middle' } },
          { title: 'KEYS', right: true, rank: 1 },
        ],
        clients.map((client) => [
          client.name,
          stateOf(client),
          client.access,
          client.repository.store,
          client.repository.prefix,
          String(client.keys.length),
        ]),
      ),
    );
  return 0;
}

/** Shows one client. @returns the exit status */
export function showClient({ config: option, json }: CommonOptions, name: string): number {
  const config = loadConfig(chooseConfigFile(option));
  const client = clientNamed(config, name);
  if (json) {
    print({ ...described(client), file: fileOfClient(config, name) });
    return 0;
  }
  const { repository, keys, principals, from, expires } = client;
  const rows: [string, string][] = [
    ['client', client.name],
    ['file', fileOfClient(config, name)],
    ['state', stateOf(client)],
    ['access', client.access],
    ['store', repository.store],
    ['prefix', repository.prefix],
    ...keys.map(({ fingerprint, comment }): [string, string] => ['key', `${fingerprint} ${comment}`.trim()]),
    ...principals.map((principal): [string, string] => ['principal', principal]),
    ['sessions', `${client.maxSessions} at once`],
    ['from', from.length === 0 ? 'anywhere' : from.join(', ')],
    ['expires', expires === undefined ? 'never' : expires.toISOString()],
  ];
  process.stdout.write(rows.map(([title, value]) => `${title.padEnd(10)}${printable(value)}\n`).join(''));
  return 0;
}

function onlyStore({ stores, file }: GatewayConfig): string {
  const names = Object.keys(stores);
  const [only] = names;
  if (only !== undefined && names.length === 1) return only;
  throw new GatewayError('usage', {
    detail:
      only === undefined
        ? `there is no store in ${file}; add one first`
        : `say which store with --store: ${names.join(', ')}`,
  });
}

function stateOf({ disabled, expires }: Pick<ClientConfig, 'disabled' | 'expires'>): 'active' | 'disabled' | 'expired' {
  if (disabled) return 'disabled';
  return expires !== undefined && expires.getTime() < Date.now() ? 'expired' : 'active';
}

function described({ name, keys, quota, ...client }: ClientConfig): Record<string, unknown> {
  return {
    ...{ client: name, state: stateOf(client), ...client },
    keys: keys.map(({ fingerprint, comment }) => ({ fingerprint, comment })),
    ...(quota !== undefined && { quota: { limit: quota } }),
  };
}

function said(name: string, change: ClientChange, { store, prefix }: ClientConfig['repository']): string {
  switch (change.do) {
    case 'add':
      return `added ${name}`;
    case 'set':
      return `set ${[...change.changes.keys()].join(', ')} of ${name}`;
    case 'remove':
      return `removed ${name}; its data remain in store ${store} under ${prefix === '' ? 'its root' : prefix}`;
    case 'disable':
      return `disabled ${name}: its running sessions end, and nobody gets in by its keys`;
    case 'enable':
      return `enabled ${name}`;
    case 'rename':
      return `renamed ${name} to ${change.to}; its data stay in store ${store} under ${prefix === '' ? 'its root' : prefix}`;
    case 'add-key':
      return `added a key to ${name}; all its keys work until one is removed (client remove-key)`;
    case 'remove-key':
      return `removed a key of ${name}: its sessions by that key end`;
  }
}

function print(value: object): void {
  process.stdout.write(jsonLine('client', value));
}
