/**
 * Secrets, read when they are needed and from nowhere but an environment variable or a file that its owner alone can read.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { GatewayError } from '../core/errors.ts';
import { unreadable } from './files.ts';
import { invalid } from './problems.ts';
import type { S3StoreConfig } from './types.ts';

/** Where a secret is to be found. */
type SecretSource = NonNullable<S3StoreConfig['credentials']>['secret'];

/** No access key is longer. */
const MOST_BYTES = 4096;

/**
 * The secret itself.
 * @throws GatewayError `invalid-config` that says what is wrong with the file or variable and holds nothing of its content
 */
export function readSecret(source: SecretSource, env: NodeJS.ProcessEnv = process.env): string {
  if ('variable' in source) {
    const value = Object.hasOwn(env, source.variable) ? env[source.variable] : undefined;
    if (value === undefined) throw invalid(`the environment variable ${source.variable} is not set`);
    return checkSecret(value, `the environment variable ${source.variable}`);
  }
  return checkSecret(readPrivateFile(source.file), source.file);
}

function readPrivateFile(file: string): string {
  let descriptor;
  try {
    // A named pipe must not hold everything up before it is seen to be one.
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    throw unreadable(file, error);
  }
  try {
    // What was opened is what is checked, whatever the name stands for by now.
    const { mode } = checkRegular(file, descriptor);
    if ((mode & 0o077) !== 0)
      throw invalid(
        `${file}: others than its owner can use this secret (mode ${(mode & 0o777).toString(8).padStart(4, '0')}); run: chmod 600 ${file}`,
      );
    const buffer = Buffer.alloc(MOST_BYTES + 1);
    const length = readSync(descriptor, buffer);
    if (length > MOST_BYTES) throw invalid(`${file}: is too long for a secret (over ${MOST_BYTES} bytes)`);
    return buffer.toString('latin1', 0, length);
  } catch (error) {
    throw error instanceof GatewayError ? error : unreadable(file, error);
  } finally {
    closeSync(descriptor);
  }
}

function checkRegular(file: string, descriptor: number): { readonly mode: number } {
  const stat = fstatSync(descriptor);
  if (stat.isDirectory()) throw invalid(`${file}: this is a directory; name the file in it`);
  if (!stat.isFile()) throw invalid(`${file}: this is not a regular file`);
  return stat;
}

function checkSecret(text: string, where: string): string {
  const secret = text.replace(/\r?\n$/, '');
  if (secret === '') throw invalid(`${where}: is empty; it must hold the secret access key`);
  if (/[\r\n]/.test(secret)) throw invalid(`${where}: holds several lines; it must hold the secret access key alone`);
  // Access keys of every S3 are printable ASCII without spaces; a byte order mark or `KEY = value` is a mistake.
  if (!/^[\x21-\x7e]+$/.test(secret))
    throw invalid(`${where}: holds spaces or bytes that no secret access key has; it must hold the key alone`);
  return secret;
}
