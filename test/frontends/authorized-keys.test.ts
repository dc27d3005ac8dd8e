/** Lines of authorized_keys: what sshd must read from them, for odd paths too. */
import { execFileSync } from 'node:child_process';
import { describe, expect, test } from '@jest/globals';
import { parsePublicKey } from '../../src/config/public-key.ts';
import { authorizedKeysLine, shellQuote } from '../../src/frontends/authorized-keys.ts';
import { keyPair } from '../support/ssh-stack.ts';
import { testClient } from '../support/test-client.ts';

const key = parsePublicKey(keyPair().public);
const client = testClient('appsrv', { keys: [key] });
const line = { program: ['/usr/bin/node', '/opt/gateway/bin/restic-gateway'], config: '/etc/gateway.yaml' };

const CLEAN =
  '/usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin ' +
  ['SSH_CONNECTION', 'SSH_ORIGINAL_COMMAND', 'SSH_USER_AUTH', 'LOGNAME']
    .map((name) => `${name}=\\"$${name}\\"`)
    .join(' ');

test.each([
  [
    'the plain case',
    {},
    {},
    `command="${CLEAN} /usr/bin/node /opt/gateway/bin/restic-gateway stdio appsrv -c /etc/gateway.yaml",restrict`,
  ],
  [
    'addresses and an end',
    { from: ['10.0.0.0/8', '2001:db8::/32'], expires: new Date('2027-12-31T23:59:59Z') },
    {},
    `command="${CLEAN} /usr/bin/node /opt/gateway/bin/restic-gateway stdio appsrv -c /etc/gateway.yaml",restrict,from="10.0.0.0/8,2001:db8::/32",expiry-time="20271231235959Z"`,
  ],
  [
    'a path with blanks and quotes',
    {},
    { config: `/srv/it's "mine"/g.yaml` },
    `command="${CLEAN} /usr/bin/node /opt/gateway/bin/restic-gateway stdio appsrv -c '/srv/it'\\''s \\"mine\\"/g.yaml'",restrict`,
  ],
])('%s', (_what, changes, place, options) => {
  expect(authorizedKeysLine({ ...client, ...changes }, key, { ...line, ...place })).toBe(
    `${options} ssh-ed25519 ${key.blob} appsrv`,
  );
});

test('a path with a line break would end the line early, and is refused', () => {
  expect(() => authorizedKeysLine(client, key, { ...line, config: '/tmp/a\nssh-ed25519 AAAA evil' })).toThrow(
    /line break/,
  );
});

describe('a word for the shell comes out as it went in', () => {
  test.each(['plain', 'two words', "it's", '$(reboot)', '`reboot`', 'a;b', '"', '\\', '*', '', "'; rm -rf / #"])(
    '%j',
    (word) => {
      expect(execFileSync('sh', ['-c', `printf %s ${shellQuote(word)}`], { encoding: 'utf8' })).toBe(word);
    },
  );
});
