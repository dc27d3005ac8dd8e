/** Which clients have the same repository, whatever their stores are called, and what then holds for all of them. */
import { mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { clientsOf, commonName, protectionOf, repositoryIdentity } from '../../src/config/repositories.ts';
import type { ClientConfig, StoreConfig } from '../../src/config/types.ts';
import { repositoriesOf, trashMsOf } from '../../src/client-maintenance.ts';
import { tempDir } from '../support/lab.ts';
import { testClient, testGateway } from '../support/test-client.ts';

const DAY = 24 * 60 * 60 * 1000;
const real = path.join(tempDir(), 'real');
mkdirSync(path.join(real, 'hosts'), { recursive: true });
const link = path.join(tempDir(), 'link');
symlinkSync(real, link);

const directory = (name: string, at: string): StoreConfig => ({ type: 'directory', name, path: at });
const bucket = (name: string, given: object): StoreConfig => ({
  type: 's3',
  name,
  bucket: 'backups',
  region: 'us-east-1',
  forcePathStyle: true,
  ...given,
});

test.each<[string, StoreConfig, string, StoreConfig, string, boolean]>([
  ['two names of a directory', directory('one', real), 'a', directory('two', real), 'a', true],
  ['a symbolic link', directory('one', real), 'a', directory('two', link), 'a', true],
  [
    'part of the path as prefix',
    directory('one', real),
    'hosts/a',
    directory('two', path.join(link, 'hosts')),
    'a',
    true,
  ],
  ['the root of one store', directory('one', path.join(real, 'hosts')), '', directory('two', real), 'hosts', true],
  ['another prefix', directory('one', real), 'a', directory('two', real), 'b', false],
  ['another directory', directory('one', real), 'a', directory('two', path.dirname(real)), 'a', false],
  ['two names of a bucket', bucket('one', {}), 'a', bucket('two', { region: 'eu-west-1' }), 'a', true],
  [
    'http and https of one server',
    bucket('one', { endpoint: 'http://s3.example' }),
    'a',
    bucket('two', { endpoint: 'https://s3.example' }),
    'a',
    true,
  ],
  ['another server', bucket('one', {}), 'a', bucket('two', { endpoint: 'https://s3.example' }), 'a', false],
  ['another bucket', bucket('one', {}), 'a', bucket('two', { bucket: 'other' }), 'a', false],
])('%s', (_name, one, onePrefix, two, twoPrefix, isSame) => {
  const clients: Record<string, ClientConfig> = {
    lenient: testClient('lenient', { repository: { store: 'one', prefix: onePrefix } }),
    strict: testClient('strict', {
      ...{ repository: { store: 'two', prefix: twoPrefix } },
      ...{ protectMs: 30 * DAY, trashMs: 60 * DAY },
    }),
    short: testClient('short', {
      ...{ repository: { store: 'two', prefix: twoPrefix } },
      ...{ protectMs: DAY, trashMs: DAY },
    }),
  };
  const config = testGateway('/nowhere', { stores: { one, two }, clients });
  const [lenient, strict] = [
    { store: 'one', prefix: onePrefix },
    { store: 'two', prefix: twoPrefix },
  ] as const;
  expect(repositoryIdentity(config, lenient) === repositoryIdentity(config, strict)).toBe(isSame);
  expect(protectionOf(config, strict)).toEqual({ protectMs: 30 * DAY, trashMs: 60 * DAY });
  expect(protectionOf(config, lenient).protectMs).toBe(isSame ? 30 * DAY : undefined);
  expect(trashMsOf(config, lenient)).toBe((isSame ? 60 : 14) * DAY);
  expect(clientsOf(config, lenient).map(({ name }) => name)).toEqual(
    isSame ? ['lenient', 'strict', 'short'] : ['lenient'],
  );
  expect(commonName(config, strict)).toEqual(isSame ? lenient : strict);
  expect(repositoriesOf(config)).toEqual(isSame ? ['lenient'] : ['lenient', 'strict']);
});
