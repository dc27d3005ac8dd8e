/** Sessions in processes of their own, as under sshd: twenty that create the same name at once, and their lines in one audit. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { generateKey, tempDir } from '../support/lab.ts';
import { sha256 } from '../support/restic-client.ts';
import { startStdio } from '../support/stdio-client.ts';
import { freshStore, STORES } from '../support/stores.ts';

describe.each(STORES)('on the %s store', (kind) => {
  test('one wins, the others are refused, and the content is the winner’s', async () => {
    const directory = tempDir();
    const auditFile = path.join(directory, 'audit.jsonl');
    const store = await freshStore(kind);
    // Two hosts: two configs, each with an audit path and key of its own, on the same storage.
    const configs = await Promise.all(
      ['one', 'two'].map(async (host) => {
        const file = path.join(directory, `${host}.yaml`);
        const keys = [(await generateKey()).publicLine];
        writeFileSync(
          file,
          stringify({
            stores: { main: store },
            clients: { appsrv: { keys, repository: { store: 'main' }, maxSessions: 20 } },
            audit: { file: auditFile },
          }),
        );
        return file;
      }),
    );
    const writers = Array.from({ length: 20 }, (_, index) => ({
      client: startStdio(['appsrv', '-c', configs[index % 2] ?? '']),
      body: Buffer.from(`config of writer ${index}, ${'x'.repeat(index)}`),
    }));
    // All are up and connected before the race begins.
    await Promise.all(writers.map(({ client }) => client.request('GET', '/file-1')));
    const answers = await Promise.all(writers.map(({ client, body }) => client.request('POST', '/config', { body })));
    const won = writers.filter((_, index) => answers[index]?.status === 200);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, ...Array<number>(19).fill(403)]);
    for (const { client } of writers) {
      const { status, body } = await client.request('GET', '/config');
      expect(status).toBe(200);
      expect(body.toString()).toBe(won[0]?.body.toString());
    }
    for (const { client } of writers) client.end();
    const exits = await Promise.all(writers.map(({ client }) => client.exited));
    expect(exits.map(({ status }) => status)).toEqual(Array<number>(20).fill(0));

    // Every line is whole, and each process's own are all there.
    const lines = readFileSync(auditFile, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const count = (event: string): number => lines.filter((line) => line['event'] === event).length;
    expect([count('session-start'), count('session-end'), count('denied')]).toEqual([20, 20, 19]);
    const created = lines.filter(
      (line) =>
        line['event'] === 'create' &&
        !lines.some((other) => other['event'] === 'create-failed' && other['session'] === line['session']),
    );
    expect(created.map((line) => line['sha256'])).toEqual([sha256(won[0]?.body ?? Buffer.alloc(0))]);
  });
});
