/** What docs/ssh-algorithms.md says is offered is what the SSH server sends, no more and no less, in that order. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { parsePublicKey } from '../../src/config/public-key.ts';
import { startEchoServer } from '../support/echo-server.ts';
import { parseKexinit, rawClient, type Proposal } from '../support/raw-ssh.ts';
import { keyPair } from '../support/ssh-stack.ts';

interface Row {
  readonly algorithm: string;
  readonly offered: string;
}

/** The tables of the document by their headings. */
function tables(): Map<string, Row[]> {
  const text = readFileSync(path.resolve(import.meta.dirname, '../../docs/ssh-algorithms.md'), 'utf8');
  return new Map(
    text
      .split(/^## /m)
      .slice(1)
      .map((section) => [
        section.slice(0, section.indexOf('\n')),
        [...section.matchAll(/^\| `([^`]+)` +\| (.+?) +\| .+ \|$/gm)].map(([, algorithm = '', offered = '']) => ({
          algorithm,
          offered,
        })),
      ]),
  );
}

const EXTRA = 'by `ssh: { extraCiphers: [ … ] }`';
const OF_CAS = 'with `trustedUserCAKeys`';

/** What the document says of a kind of algorithm. */
function documented(kind: string, offered: readonly string[]): string[] {
  return (tables().get(kind) ?? []).filter((row) => offered.includes(row.offered)).map(({ algorithm }) => algorithm);
}

async function sent(extraCiphers: readonly 'chacha20-poly1305@openssh.com'[]): Promise<Proposal> {
  const echo = await startEchoServer({ extraCiphers });
  const client = await rawClient(echo.server.address);
  const kexinit = await client.next();
  client.close();
  await echo.close();
  return parseKexinit(kexinit ?? Buffer.alloc(0));
}

describe('docs/ssh-algorithms.md', () => {
  test('has a table of each kind, all of whose rows say when it is offered', () => {
    expect([...tables().keys()]).toEqual(['Key exchange', 'Host key', 'Client key', 'Cipher', 'MAC', 'Compression']);
    const offered = [...tables().values()].flat().map((row) => row.offered);
    expect(new Set(offered)).toEqual(new Set(['always', EXTRA, OF_CAS]));
    expect((tables().get('Client key') ?? []).some((row) => row.offered === OF_CAS)).toBe(true);
  });

  test.each([
    ['by default', [], ['always']],
    ['with all that the config can add', ['chacha20-poly1305@openssh.com'] as const, ['always', EXTRA]],
  ])('says what is sent %s', async (_when, extraCiphers, offered) => {
    expect(await sent(extraCiphers)).toEqual({
      kex: documented('Key exchange', offered),
      hostKey: documented('Host key', offered),
      cipherToServer: documented('Cipher', offered),
      cipherToClient: documented('Cipher', offered),
      macToServer: documented('MAC', offered),
      macToClient: documented('MAC', offered),
      compressionToServer: documented('Compression', offered),
      compressionToClient: documented('Compression', offered),
      languageToServer: [],
      languageToClient: [],
    });
  });

  test('says which client keys are taken', () => {
    const lines = [keyPair('ed25519'), keyPair('ecdsa'), keyPair('rsa')].map((pair) => pair.public);
    const taken = lines.filter((line) => {
      try {
        return parsePublicKey(line).type;
      } catch {
        return false;
      }
    });
    expect(taken.map((line) => line.split(' ')[0])).toEqual(documented('Client key', ['always']));
  });
});
