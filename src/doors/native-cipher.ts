/** Which of its two ways ssh2 encrypts by. It takes the second without a word where its native part is not there or is built for another Node. */
import { createRequire } from 'node:module';

/** Whether ssh2's native part is in use; without it, each packet goes through Node's crypto module, which costs more CPU. */
export function usesNativeCipher(): boolean {
  const require = createRequire(import.meta.url);
  return (require('ssh2/lib/protocol/crypto.js') as { readonly bindingAvailable: boolean }).bindingAvailable;
}
