/** Where the public key of a client comes from: the command line, a file, stdin, or made here and now. */
import { unlinkSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { MOST_KEY_BYTES, readSmallFile, readUpTo } from '../../config/small-file.ts';
import { GatewayError, messageOf } from '../../core/errors.ts';
import { generateOpenSshKey } from '../../frontends/openssh-key.ts';

/** What the command line says of a key. */
export interface KeyOptions {
  readonly key: string | undefined;
  readonly keyFile: string | undefined;
  readonly generate: boolean;
  /** Where to write a generated private key; `.pub` beside it. */
  readonly out: string | undefined;
}

/** A client's public key, and the files that were made for it. */
interface ClientKey {
  /** As in a `.pub` file. */
  readonly line: string;
  /** Absolute path of the private key that was made. */
  readonly privateFile?: string;
  /** Takes away what was made, because it did not come to use. */
  discard(): void;
}

/** @throws GatewayError `usage` when it is not clear which key, or when its file cannot be read or written */
export function clientKey(name: string, { key, keyFile, generate, out }: KeyOptions): ClientKey {
  if ([key !== undefined, keyFile !== undefined, generate].filter(Boolean).length > 1)
    throw usage('give one of: the public key itself, --key-file FILE, --generate');
  if (out !== undefined && !generate)
    throw usage('--out says where --generate writes; there is nothing to write without it');
  if (generate) return made(name, resolve(out ?? `${name}_ed25519`));
  if (keyFile !== undefined) return given(read(keyFile));
  if (key !== undefined && key !== '-') return given(key);
  if (key === undefined && process.stdin.isTTY)
    throw usage(
      'give the public key: as the last argument in quotes, by --key-file FILE, on stdin, or make one by --generate',
    );
  return given(read(0));
}

function given(line: string): ClientKey {
  return { line: line.trim(), discard: () => undefined };
}

function made(name: string, file: string): ClientKey {
  const { privateKey, publicLine } = generateOpenSshKey(name);
  const written: string[] = [];
  const discard = (): void => {
    for (const one of written) unlinkSync(one);
  };
  try {
    writeFileSync(file, privateKey, { mode: 0o600, flag: 'wx' });
    written.push(file);
    writeFileSync(`${file}.pub`, `${publicLine}\n`, { mode: 0o644, flag: 'wx' });
    written.push(`${file}.pub`);
  } catch (error) {
    discard();
    const { code, path = file } = error as NodeJS.ErrnoException;
    throw usage(
      code === 'EEXIST'
        ? `${path} exists already, and keys are not overwritten; name another place with --out FILE`
        : `${path} cannot be written (${code ?? messageOf(error)}); name another place with --out FILE`,
      error,
    );
  }
  return { line: publicLine, privateFile: file, discard };
}

function read(file: string | 0): string {
  try {
    const bytes = file === 0 ? readUpTo(0, MOST_KEY_BYTES) : readSmallFile(file, MOST_KEY_BYTES);
    return bytes.toString();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw usage(`${file === 0 ? 'stdin' : file} cannot be read (${code ?? messageOf(error)})`, error);
  }
}

function usage(detail: string, cause?: unknown): GatewayError {
  return new GatewayError('usage', { detail, cause });
}
