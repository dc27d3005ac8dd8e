/**
 * `restic-gateway authorized-keys` and `authorized-principals`: answer sshd's AuthorizedKeysCommand and AuthorizedPrincipalsCommand from the
 * YAML. They run at every login, so they load little.
 *
 * Of a certificate, sshd itself checks times, source address and signatures. It is judged here as well, since sshd does not know what the config revokes, nor
 * that a certificate must be one client's.
 */
import { parseArgs } from 'node:util';
import { findConfigFile, loadConfig } from '../config/load.ts';
import { printable } from '../core/printable.ts';
import { isCertificateType, isRevoked } from '../core/ssh-certificate.ts';
import { authorityLine, authorizedKeysLine, authorizedPrincipalsLine } from '../frontends/authorized-keys.ts';
import { certificatesOf, type GoodCertificate } from '../frontends/certificates.ts';
import type { GatewayConfig } from '../config/types.ts';
import { orUsage } from './arguments.ts';
import { loadConfigFor } from './login-config.ts';
import { ownProgram } from './program.ts';

/** Prints the lines of all keys, or of the one that sshd asks for. @returns the exit status */
export async function runAuthorizedKeys(argv: readonly string[]): Promise<number> {
  const about = "Prints authorized_keys lines for sshd's AuthorizedKeysCommand.";
  const asked = ask('authorized-keys', about, argv, ['type', 'key']);
  if (asked === undefined) return 0;
  const { file, type, key: blob } = asked;
  const isPlain = blob !== undefined && !(type !== undefined && isCertificateType(type));
  const config = isPlain ? await loadConfigFor(file, { key: blob }) : loadConfig(file);
  const line = { program: ownProgram(), config: config.file };
  const { trustedUserCAKeys: authorities } = config;
  if (type !== undefined && blob !== undefined && isCertificateType(type)) {
    const good = judge(config, blob);
    const authority = authorities.find(({ fingerprint }) => fingerprint === good?.certificate.ca);
    if (good !== undefined && authority !== undefined) print(authorityLine(good.client, authority, line));
    return 0;
  }
  for (const client of Object.values(config.clients)) {
    for (const key of client.keys)
      if (
        (type ?? key.type) === key.type &&
        (blob ?? key.blob) === key.blob &&
        !isRevoked(config.revokedCertificates, key.fingerprint)
      )
        print(authorizedKeysLine(client, key, line));
    if (type === undefined && blob === undefined && client.principals.length > 0)
      for (const authority of authorities) print(authorityLine(client, authority, line));
  }
  return 0;
}

/** Prints the lines of all principals, or of the one of the certificate that sshd asks for. @returns the exit status */
export function runAuthorizedPrincipals(argv: readonly string[]): number {
  const about =
    "Prints lines of principals for sshd's AuthorizedPrincipalsCommand. sshd trusts the CAs itself, by TrustedUserCAKeys.";
  const asked = ask('authorized-principals', about, argv, ['key']);
  if (asked === undefined) return 0;
  const { file, key: blob } = asked;
  const config = loadConfig(file);
  const line = { program: ownProgram(), config: config.file };
  const good = blob === undefined ? undefined : judge(config, blob);
  for (const client of Object.values(config.clients))
    for (const principal of client.principals)
      if (blob === undefined || (good?.client === client && good.certificate.principals.includes(principal)))
        print(authorizedPrincipalsLine(client, principal, line));
  return 0;
}

/** Reads the options. @param tokens - those that sshd has a token for. @returns undefined when only help was asked for */
function ask(
  name: string,
  about: string,
  argv: readonly string[],
  tokens: readonly ('type' | 'key')[],
): { readonly file: string; readonly type?: string | undefined; readonly key?: string | undefined } | undefined {
  const usage = `usage: restic-gateway ${name} [-c FILE] [${tokens.map((one) => `--${one} %${one.charAt(0)}`).join(' ')}]`;
  const { values } = orUsage(usage, () =>
    parseArgs({
      args: [...argv],
      options: {
        config: { type: 'string', short: 'c' },
        help: { type: 'boolean' },
        ...Object.fromEntries(tokens.map((one) => [one, { type: 'string' } as const])),
      },
    }),
  );
  const { config: file, help, type, key } = values as Readonly<Record<string, string | undefined>> & { help?: boolean };
  if (help !== true) return { file: findConfigFile(file), type, key };
  process.stdout.write(`${usage}\n\n${about}\n`);
  return undefined;
}

/** What a certificate stands for. sshd throws away what is said of one that is refused, but not a terminal. */
function judge(config: GatewayConfig, blob: string): GoodCertificate | undefined {
  const judged = certificatesOf(config).judge(Buffer.from(blob, 'base64'), undefined);
  if ('client' in judged) return judged;
  const why = judged.refused?.why ?? 'it is malformed, or not signed by one of trustedUserCAKeys';
  process.stderr.write(`restic-gateway: ${printable(`this certificate is refused: ${why}`)}\n`);
  return undefined;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
