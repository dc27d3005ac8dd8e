/** `notify` of the config: what becomes of it, and what is refused with which words. */
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { parseConfig } from '../../src/config/load.ts';
import { readSecrets } from '../../src/config/secrets.ts';
import { ConfigError } from '../../src/config/problems.ts';
import { tempDir } from '../support/lab.ts';
import { yaml } from './samples.ts';

const read = (text: string) => parseConfig(text, '/etc/gateway/gateway.yaml').notify;
const problems = (text: string): string[] => {
  try {
    read(text);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.map(({ path: at, message }) => `${at}: ${message}`);
    throw error;
  }
  return [];
};

test('each kind of target, with all that is left out', () => {
  const targets = read(yaml`
    notify:
      hook: { webhook: { url: https://hooks.example.com/x } }
      mail: { email: { to: a@example.com, from: b@example.com, server: smtp://mail.example.com } }
      phone: { ntfy: { url: https://ntfy.example.com/, topic: backups } }
      switch: { ping: { urlFile: switch.url } }
  `);
  const all = ['late', 'anomaly', 'scrub', 'retention', 'quota', 'copy', 'gateway'];
  const DAY = 86_400_000;
  expect(targets['hook']).toEqual({
    ...{ name: 'hook', events: all, severity: 'warning', reminders: [DAY, 3 * DAY, 7 * DAY], digest: 1 },
    channel: { type: 'webhook', url: { text: 'https://hooks.example.com/x' }, format: 'json' },
  });
  expect(targets['mail']?.channel).toEqual({
    ...{ type: 'email', to: ['a@example.com'], from: 'b@example.com' },
    server: { host: 'mail.example.com', port: 587, tls: 'starttls' },
  });
  expect(targets['phone']?.channel).toEqual({
    type: 'ntfy',
    url: 'https://ntfy.example.com',
    topic: { text: 'backups' },
  });
  expect(targets['switch']).toMatchObject({ channel: { url: { file: '/etc/gateway/switch.url' }, every: 300_000 } });
  expect(targets['switch']).not.toHaveProperty('digest');
});

test('all that can be said', () => {
  const [target] = Object.values(
    read(yaml`
      notify:
        night:
          email:
            to: [a@example.com, b@example.com]
            from: gw@example.com
            server: smtps://[2001:db8::1]:4465
            user: gateway
            passwordFile: mail.password
            caFile: ca.pem
          events: [late, anomaly]
          severity: critical
          clients: [appsrv, web-*]
          quietHours: 22:00-07:00
          timeZone: Europe/Berlin
          reminders: [2h, 2d]
          digest: friday
    `),
  );
  expect(target).toEqual({
    ...{ name: 'night', events: ['late', 'anomaly'], severity: 'critical', clients: ['appsrv', 'web-*'] },
    ...{
      quietHours: { from: 1320, to: 420 },
      timeZone: 'Europe/Berlin',
      reminders: [7_200_000, 172_800_000],
      digest: 5,
    },
    channel: {
      ...{ type: 'email', to: ['a@example.com', 'b@example.com'], from: 'gw@example.com' },
      server: { host: '2001:db8::1', port: 4465, tls: 'implicit' },
      login: { user: 'gateway', password: { file: '/etc/gateway/mail.password' } },
      caFile: '/etc/gateway/ca.pem',
    },
  });
});

test('with clients, the gateway itself is another matter', () => {
  const { a } = read(
    'notify: { a: { webhook: { url: http://x/ }, clients: [appsrv], reminders: none, digest: none } }',
  );
  expect(a).toMatchObject({ events: ['late', 'anomaly', 'scrub', 'retention', 'quota'], reminders: [] });
  expect(a).not.toHaveProperty('digest');
});

describe('refused', () => {
  const HOOK = 'webhook: { url: http://x/ }';
  const mail = (more: string, server = 'smtp://mail'): string =>
    `{ email: { to: a@example.com, from: b@example.com, server: "${server}"${more} } }`;
  test.each([
    ['{}', /^notify\.a: must have one of webhook, email, ntfy and ping$/],
    [`{ ${HOOK}, ping: { url: http://x/ } }`, /^notify\.a\.ping: stands beside webhook/],
    ['{ webhook: {} }', /^notify\.a\.webhook\.url: is missing; write url or urlFile$/],
    ['{ webhook: { url: http://x/, urlFile: y } }', /^notify\.a\.webhook\.urlFile: stands beside url/],
    ['{ webhook: { url: ftp://x/ } }', /must be a URL that begins with https/],
    ['{ webhook: { url: "http://u:p@x/" } }', /must hold no user and no password/],
    ['{ webhook: { url: "http://x/#y" } }', /must not have a part after "#"/],
    [`{ webhook: { url: http://x/, format: slak } }`, /format: must be .*did you mean "slack"/i],
    [`{ ${HOOK}, events: [lat] }`, /events\[0\]: must be .*did you mean "late"/i],
    [`{ ${HOOK}, events: [] }`, /events: is empty/],
    [`{ ${HOOK}, clients: ["a b"] }`, /clients\[0\]: must be the name of a client/],
    [`{ ${HOOK}, quietHours: 22-7 }`, /quietHours: must be two times of day/],
    [`{ ${HOOK}, quietHours: 24:00-07:00 }`, /quietHours: must be two times of day/],
    [`{ ${HOOK}, quietHours: 07:00-07:00 }`, /quietHours: must end at another time/],
    [`{ ${HOOK}, timeZone: Mars/Olympus }`, /timeZone: must be a time zone/],
    [`{ ${HOOK}, reminders: [1d, none] }`, /reminders: must be none alone/],
    [`{ ${HOOK}, reminders: 5min }`, /reminders: must be an hour or more/],
    [mail(', user: x'), /user: needs passwordFile/],
    [mail(', passwordFile: x'), /passwordFile: needs user/],
    [mail(', user: u, passwordFile: x, startTls: false'), /startTls: would send the password unencrypted/],
    [mail('', 'mail.example.com'), /server: must be smtp:\/\/HOST/],
    [mail('', 'smtp://mail:99999'), /server: must be smtp:\/\/HOST/],
    [
      '{ email: { to: "A <a@example.com>", from: b@example.com, server: smtp://m } }',
      /to: must be an e-mail address alone/,
    ],
    ['{ email: { to: "a@example.com\\r\\nBcc: c@example.com", from: b@example.com, server: smtp://m } }', /to: /],
    ['{ ntfy: { url: "https://ntfy.sh?x=1", topic: t } }', /url: must not have a query/],
    ['{ ntfy: { url: https://ntfy.sh, topic: "a/b" } }', /topic: a topic is/],
    ['{ ping: { url: http://x/, every: 10s } }', /every: must be from 1min to 1d/],
    ['{ ping: { url: http://x/ }, clients: [web-*] }', /clients: may be one client by name/],
  ])('%s', (target, words) => {
    expect(problems(`notify: { a: ${target} }`)).toEqual([expect.stringMatching(words)]);
  });

  test.each(['a b', '../x', '.x'])('the name %j', (name) => {
    expect(problems(`notify: { "${name}": { ${HOOK} } }`)).toEqual([expect.stringMatching(/a name is 1 to 64/)]);
  });
  test.each(['__proto__', 'constructor'])('the name %s', (name) => {
    expect(problems(`notify: { ${name}: { ${HOOK} } }`)).toEqual([`notify.${name}: this name cannot be used`]);
  });
});

describe('its secrets', () => {
  const check = (content: string | undefined, mode = 0o600): string => {
    const file = path.join(tempDir(), 'secret');
    if (content !== undefined) writeFileSync(file, content);
    if (content !== undefined) chmodSync(file, mode);
    try {
      readSecrets(parseConfig(`notify: { a: { webhook: { urlFile: ${file} } } }`, '/gateway.yaml'));
    } catch (error) {
      return (error as Error).message;
    }
    return 'good';
  };
  test('are read when the config is checked, and none is in an error', () => {
    expect(check('https://hooks.example.com/SECRET\n')).toBe('good');
    expect(check(undefined)).toMatch(/no such file/i);
    expect(check('https://hooks.example.com/SECRET', 0o644)).toMatch(/chmod 600/);
    expect(check('hooks.example.com/SECRET')).toMatch(/must be a URL/);
    expect(check('hooks.example.com/SECRET')).not.toMatch(/SECRET/);
    expect(check('https://x/SECRET two')).toMatch(/must hold the URL alone/);
  });
});
