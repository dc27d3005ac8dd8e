/** A client's self-test over real SSH: tries what a client must not be able to do, and says what held. */
import ssh2, { type Client } from 'ssh2';
import { GatewayError } from '../core/errors.ts';
import { logIn, openResticSession, type ResticSession, type Target } from './connection.ts';
import { writeProbeReport } from '../core/probe-report.ts';
import { RACERS, tryRepository, type Left } from './repository-checks.ts';
import { notTried, type Row } from './rows.ts';
import { tryChannels, tryLogins } from './ssh-checks.ts';

/** What the probe found. */
interface ProbeResult {
  /** Whether all that was tried held. */
  readonly held: boolean;
  readonly rows: readonly Row[];
  /** What a person should know beside the rows. */
  readonly notes: readonly string[];
  /** What of the probe's own is in the repository now. */
  readonly left: readonly Left[];
}

/** A private key's text and its passphrase, if it has one. */
export interface ProbeKey {
  readonly privateKey: Buffer;
  readonly passphrase?: string;
}

/** Whether a private key can be used as it is. */
export function stateOfKey({ privateKey, passphrase }: ProbeKey): 'good' | 'encrypted' | 'wrong-passphrase' | 'no-key' {
  const key: unknown = ssh2.utils.parseKey(privateKey, passphrase);
  if (key instanceof Error) {
    if (passphrase !== undefined) return 'wrong-passphrase';
    return /encrypted|passphrase/i.test(key.message) ? 'encrypted' : 'no-key';
  }
  return (key as ssh2.ParsedKey).isPrivateKey() ? 'good' : 'no-key';
}

/**
 * Tries everything. Harms nothing that is real, whatever the server does: see repository-checks.ts.
 * @param second - a key of another client of the same repository, to try the locks of another
 * @throws GatewayError `session-refused` when the server cannot be reached, is not the one that is known, or does not let the key in
 */
export async function probe(target: Target, key: ProbeKey, second: ProbeKey | undefined): Promise<ProbeResult> {
  const clients: Client[] = [];
  const enter = async (as: ProbeKey): Promise<Client> => {
    const login = await logIn(target, { ...as, authHandler: ['publickey'] });
    if (!login.in) {
      const why = login.handshake
        ? `the key is not let in as ${target.user} (${login.why}); is it in the gateway's config, not disabled, not expired?`
        : `cannot be reached: ${login.why}`;
      throw new GatewayError('session-refused', { detail: `${target.host}:${target.port}: ${why}` });
    }
    clients.push(login.client);
    login.client.on('error', () => undefined);
    return login.client;
  };
  const speak = async (as: ProbeKey): Promise<ResticSession> => openResticSession(await enter(as), target.timeoutMs);
  try {
    const session = await speak(key);
    // Failed logins make a server wary of an address; the good ones after them end that.
    const logins = await tryLogins(target);
    const racers: ResticSession[] = [];
    for (let left = RACERS - 1; left > 0; left--) racers.push(await speak(key));
    const other = second === undefined ? undefined : await speak(second);
    const repository = await tryRepository(session, racers, other);
    for (const client of clients.splice(0)) client.destroy();
    const channels = await tryChannels(() => enter(key), target);
    const rows = [
      ...repository.rows,
      ...channels,
      notTried('environment variables', 'a server does not say whether it took them'),
      ...logins,
    ];
    const failures = rows.filter(({ result }) => result === 'does-not-hold').map(({ check }) => check);
    const held = rows.filter(({ result }) => result === 'held').length;
    // To a gateway's monitoring; another server may well not want to hear it.
    await openResticSession(await enter(key), target.timeoutMs, writeProbeReport(held, failures)).catch(
      () => undefined,
    );
    const notes = [
      ...(repository.removes
        ? [
            'This key may remove backups: it has full access (by design for `access: full`), its removals go to the trash (`removals: deferred`), or the server is not append-only.',
          ]
        : []),
      ...(repository.readOnly ? ['This key may not add anything: it is read-only.'] : []),
    ];
    return {
      held: failures.length === 0,
      rows,
      notes,
      left: repository.left,
    };
  } finally {
    for (const client of clients) client.destroy();
  }
}
