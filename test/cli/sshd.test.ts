/** What `check` says of sshd's settings. */
import { expect, test } from '@jest/globals';
import { troubleIn } from '../../src/cli/sshd.ts';

test('what Debian has is well', () => {
  expect(troubleIn('acceptenv LANG\nacceptenv LC_*\nacceptenv COLORTERM\npermituserenvironment no\n')).toEqual([]);
});

test.each([
  ['acceptenv *', /takes NODE_OPTIONS, LD_PRELOAD, BASH_ENV, ENV, PATH from clients/],
  ['acceptenv LANG NODE_*', /takes NODE_OPTIONS from clients/],
  ['acceptenv ?ASH_ENV', /takes BASH_ENV from clients/],
  ['permituserenvironment yes', /PermitUserEnvironment no/],
  ['permituserenvironment LANG,LC_*', /PermitUserEnvironment no/],
])('%s', (line, reported) => {
  expect(troubleIn(`port 22\n${line}\n`)).toEqual([expect.stringMatching(reported)]);
});
