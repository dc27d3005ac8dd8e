/**
 * Secrets, read when they are needed and from nowhere but an environment variable or a file that its owner alone can read.
 */
import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from 'node:fs';
import { GatewayError, messageOf } from '../core/errors.ts';
import { readCaFile } from './certificates.ts';
import { unreadable } from './files.ts';
import { parseTargetUrl, parseTopic, type NotifyTarget, type TextSource } from './notify.ts';
import { hasControls, invalid } from './problems.ts';
import { isShared, mustBeTrusted } from './trusted-files.ts';
import type { GatewayConfig, SecretSource } from './types.ts';

/** No access key or token is longer. */
const MOST_BYTES = 4096;

/** What ends as an access key of AWS and those who make theirs likewise: a path may, a key written in a path's place does. */
const LIKE_A_KEY = /(?:^|\/)(?=[^]*[0-9])(?=[^]*[A-Z])[A-Za-z0-9+/=]{40}$/;

/** A token that is shorter could be guessed. */
const LEAST_TOKEN = 16;

/**
 * The token that whoever reads the metrics must bring.
 * @throws GatewayError as `readSecret`
 */
export function readToken(source: SecretSource, env: NodeJS.ProcessEnv = process.env): string {
  const token = readSecret(source, env, 'token');
  if (token.length < LEAST_TOKEN)
    throw invalid(
      `${placeOf(source)}: is too short for a token (under ${LEAST_TOKEN} characters); make one with: openssl rand -hex 32`,
    );
  return token;
}

/**
 * The secret itself.
 * @param what - what it must be, for the error
 * @throws GatewayError `invalid-config` that says what is wrong with the file or variable and holds nothing of its content
 */
export function readSecret(
  source: SecretSource,
  env: NodeJS.ProcessEnv = process.env,
  what: 'secret access key' | 'token' | 'secret' | 'database password' = 'secret access key',
): string {
  if ('variable' in source) {
    const value = Object.hasOwn(env, source.variable) ? env[source.variable] : undefined;
    if (value === undefined) throw invalid(`${placeOf(source)} is not set`);
    return checkSecret(value, placeOf(source), what);
  }
  return checkSecret(readPrivateFile(source.file), source.file, what);
}

/**
 * A password, which may hold spaces and letters of any language.
 * @throws GatewayError as `readSecret`
 */
export function readPassword(source: { readonly file: string }): string {
  const password = readPrivateFile(source.file, 'utf8').replace(/\r?\n$/, '');
  if (password === '') throw invalid(`${source.file}: is empty; it must hold the password`);
  if (hasControls(password)) throw invalid(`${source.file}: holds several lines; it must hold the password alone`);
  return password;
}

/**
 * A text that may be a secret, as a parser of the config reads it.
 * @throws GatewayError as `readSecret`
 */
export function readText(source: TextSource, what: 'URL' | 'topic', parse: (text: string) => string): string {
  if ('text' in source) return source.text;
  const text = checkSecret(readPrivateFile(source.file), source.file, what);
  try {
    return parse(text);
  } catch (error) {
    throw invalid(`${source.file}: ${messageOf(error)}`);
  }
}

/** Reads what a target of `notify` needs. @throws GatewayError as `readSecret` */
function readTargetSecrets({ channel }: NotifyTarget): void {
  switch (channel.type) {
    case 'webhook':
      readText(channel.url, 'URL', parseTargetUrl);
      if (channel.secret !== undefined) readSecret(channel.secret, process.env, 'secret');
      return;
    case 'email':
      if (channel.login !== undefined) readPassword(channel.login.password);
      return;
    case 'ntfy':
      readText(channel.topic, 'topic', parseTopic);
      if (channel.token !== undefined) readSecret(channel.token, process.env, 'token');
      return;
    case 'ping':
      readText(channel.url, 'URL', parseTargetUrl);
  }
}

/**
 * Reads every secret that a config names, so that what cannot be used is seen before it is needed.
 * @throws GatewayError as `readSecret`
 */
export function readSecrets({
  stores,
  metrics,
  database,
  notify,
}: Pick<GatewayConfig, 'stores' | 'metrics' | 'database' | 'notify'>): void {
  for (const target of Object.values(notify)) {
    readTargetSecrets(target);
    const { caFile } = target.channel;
    if (caFile !== undefined) readCaFile(caFile);
  }
  for (const store of Object.values(stores))
    if (store.type === 's3' && store.credentials !== undefined) readSecret(store.credentials.secret);
  if (metrics?.token !== undefined) readToken(metrics.token);
  if (database?.password !== undefined) readSecret(database.password, process.env, 'database password');
}

/**
 * Holds a file of a repository's password to what every file of a secret is held to, before restic reads it.
 * @throws GatewayError as `readSecret`
 */
export function checkPasswordFile(file: string): void {
  if (readPrivateFile(file).trim() === '') throw invalid(`${file}: is empty; it must hold the repository's password`);
}

function placeOf(source: SecretSource): string {
  return 'variable' in source ? `the environment variable ${source.variable}` : source.file;
}

function readPrivateFile(file: string, encoding: 'latin1' | 'utf8' = 'latin1'): string {
  let descriptor;
  try {
    // A named pipe must not hold everything up before it is seen to be one.
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' && LIKE_A_KEY.test(file))
      throw invalid(
        'there is no file of the name that is given for the secret, and it looks like a key itself: write the key into a file of mode 0600, and name that file',
      );
    throw unreadable(file, error);
  }
  try {
    // What was opened is what is checked, whatever the name stands for by now.
    const stat = checkRegular(file, descriptor);
    const { mode } = stat;
    if (isShared(stat))
      throw invalid(
        `${file}: others than its owner can use this secret (mode ${(mode & 0o777).toString(8).padStart(4, '0')}); run: chmod 600 ${file}`,
      );
    mustBeTrusted(file);
    const buffer = Buffer.alloc(MOST_BYTES + 1);
    const length = readSync(descriptor, buffer);
    if (length > MOST_BYTES) throw invalid(`${file}: is too long for a secret (over ${MOST_BYTES} bytes)`);
    return buffer.toString(encoding, 0, length);
  } catch (error) {
    throw error instanceof GatewayError ? error : unreadable(file, error);
  } finally {
    closeSync(descriptor);
  }
}

function checkRegular(file: string, descriptor: number): Stats {
  const stat = fstatSync(descriptor);
  if (stat.isDirectory()) throw invalid(`${file}: this is a directory; name the file in it`);
  if (!stat.isFile()) throw invalid(`${file}: this is not a regular file`);
  return stat;
}

function checkSecret(text: string, where: string, what: string): string {
  const secret = text.replace(/\r?\n$/, '');
  if (secret === '') throw invalid(`${where}: is empty; it must hold the ${what}`);
  if (/[\r\n]/.test(secret)) throw invalid(`${where}: holds several lines; it must hold the ${what} alone`);
  // Access keys of every S3, and tokens in headers, are printable ASCII without spaces; a byte order mark or `KEY = value` is a mistake.
  if (!/^[\x21-\x7e]+$/.test(secret))
    throw invalid(
      `${where}: holds spaces or bytes that no ${what} has; it must hold the ${what === 'secret access key' ? 'key' : what} alone`,
    );
  return secret;
}
