/**
 * What a config takes away while it cannot be taken up: one file that is wrong must not keep a client in that another file revokes.
 *
 * While anything is wrong, nothing new holds. What the files that are right by themselves take from a client holds all the same: that it is
 * gone, that it is disabled, a key or principal that is removed, an earlier end; and a CA that is removed, a certificate that is revoked. What is left is a part of a config that was right, and so is right.
 */
import { dirname } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { checkClientFile, checkRoot, clientChecker, entriesOf } from './check.ts';
import { deepFreeze } from './freeze.ts';
import { fileOfClient, keepFiles } from './load.ts';
import { readClientFiles, readConfigText, sourceOf } from './sources.ts';
import type { ClientConfig, ClientEntry, GatewayConfig } from './types.ts';

/** A config with less, and the names of the clients that have lost something by it. */
interface Less {
  readonly config: GatewayConfig;
  readonly removed: readonly string[];
  readonly restricted: readonly string[];
  /** Whether fewer certificates are accepted, of whatever client. */
  readonly certificates: boolean;
}

type Certificates = Pick<GatewayConfig, 'trustedUserCAKeys' | 'revokedCertificates'>;

/**
 * The config in effect without what its files have taken away since.
 * @returns undefined where that is nothing
 */
export function withoutRevoked(config: GatewayConfig, env: NodeJS.ProcessEnv = process.env): Less | undefined {
  const { said, root } = saidByFiles(config, env);
  const bySaid = new Map([...said.values()].flatMap((entries) => [...(entries ?? [])]));
  const clients = Object.create(null) as Record<string, ClientConfig>;
  const removed: string[] = [];
  const restricted: string[] = [];
  for (const client of Object.values(config.clients)) {
    const file = fileOfClient(config, client.name);
    const entry = bySaid.get(client.name);
    // A file that is wrong says nothing; one that is gone has no clients.
    const isKept = entry === undefined && said.has(file) && said.get(file) === undefined;
    if (entry === undefined && !isKept) {
      removed.push(client.name);
      continue;
    }
    const less = entry === undefined ? client : reduced(client, entry);
    if (less !== client) restricted.push(client.name);
    clients[client.name] = less;
  }
  const fewer = root && fewerCertificates(config, root);
  if (removed.length === 0 && restricted.length === 0 && fewer === undefined) return undefined;
  const less = deepFreeze({ ...config, ...fewer, clients });
  keepFiles(config, less);
  return { config: less, removed, restricted, certificates: fewer !== undefined };
}

/** What is left of CAs when these are the ones that are said, and what is revoked by then; undefined where nothing is taken away. */
function fewerCertificates(before: Certificates, said: Certificates): Certificates | undefined {
  const trusted = before.trustedUserCAKeys.filter(({ blob }) => said.trustedUserCAKeys.some((ca) => ca.blob === blob));
  const revoked = said.revokedCertificates.filter(
    (one) => !before.revokedCertificates.some((known) => isDeepStrictEqual(known, one)),
  );
  if (trusted.length === before.trustedUserCAKeys.length && revoked.length === 0) return undefined;
  return { trustedUserCAKeys: trusted, revokedCertificates: [...before.revokedCertificates, ...revoked] };
}

/** What is left of a client when its entry has become this one; itself where that is all. */
function reduced(client: ClientConfig, entry: ClientEntry): ClientConfig {
  const kept = client.keys.filter((key) => entry.keys.some(({ blob }) => blob === key.blob));
  const principals = client.principals.filter((principal) => entry.principals.includes(principal));
  const ends = entry.expires !== undefined && !(client.expires !== undefined && client.expires <= entry.expires);
  const disabled = client.disabled || entry.disabled;
  const isSame = kept.length === client.keys.length && principals.length === client.principals.length;
  if (isSame && !ends && disabled === client.disabled) return client;
  return { ...client, keys: kept, principals, disabled, ...(ends && { expires: entry.expires }) };
}

/** What the files say that are right by themselves. */
interface Said {
  /** The entries of each file; undefined for one that is not right. A file that is gone is not in it. */
  readonly said: ReadonlyMap<string, ReadonlyMap<string, ClientEntry> | undefined>;
  /** What the config's own file says besides; undefined when it is not right. */
  readonly root: Certificates | undefined;
}

function saidByFiles(config: GatewayConfig, env: NodeJS.ProcessEnv): Said {
  const { file, clientsDirectory } = config;
  const said = new Map<string, ReadonlyMap<string, ClientEntry> | undefined>([[file, undefined]]);
  const checkClient = clientChecker(dirname(file));
  let whole: Certificates | undefined;
  const read = (name: string, text: string): void => {
    const { raw, isWrong } = sourceOf(name, text, env);
    const checked = entriesOf(raw, 'clients').map(([client, entry]) => checkClient(client, entry).checked);
    const entries = checked.flatMap((one) => ('value' in one ? [[one.value.name, one.value] as const] : []));
    const isRight = raw !== undefined && !isWrong && entries.length === checked.length;
    const root = name === file ? checkRoot(raw, dirname(file)) : { problems: checkClientFile(raw) };
    const isWhole = 'value' in root || root.problems.length === 0;
    said.set(name, isRight && isWhole ? new Map(entries) : undefined);
    if (isRight && 'value' in root) whole = root.value.config;
  };
  try {
    read(file, readConfigText(file));
  } catch {
    // It says nothing, then.
  }
  if (clientsDirectory === undefined) return { said, root: whole };
  try {
    const { texts, problems } = readClientFiles(clientsDirectory);
    for (const problem of problems) if (problem.file !== undefined) said.set(problem.file, undefined);
    for (const [name, text] of texts) read(name, text);
  } catch {
    // None of them says anything.
    for (const client of Object.keys(config.clients)) {
      const name = fileOfClient(config, client);
      if (name !== file) said.set(name, undefined);
    }
  }
  return { said, root: whole };
}
