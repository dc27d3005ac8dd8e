/** New keys are ones that both readers of OpenSSH's format here take: for every value of their bytes, also those that begin with zeros. */
import { expect, test } from '@jest/globals';
import ssh2 from 'ssh2';
import { generateOpenSshKey } from '../../src/frontends/openssh-key.ts';

test('a thousand keys, with comments of every length modulo the padding', () => {
  for (let index = 0; index < 1000; index++) {
    const { privateKey, publicLine } = generateOpenSshKey('c'.repeat(index % 9));
    const key = ssh2.utils.parseKey(privateKey);
    if (!('getPublicSSH' in key)) throw new Error(`key ${index}: ${key.message}`);
    expect(publicLine.split(' ')[1]).toBe(key.getPublicSSH().toString('base64'));
    expect(key.comment).toBe('c'.repeat(index % 9));
    expect(key.verify('data', key.sign('data'))).toBe(true);
  }
});
