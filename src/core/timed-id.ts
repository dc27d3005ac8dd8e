/** Names for what is made once and looked for later. */

/** `20261123T211500Z-` and random hex digits: sorts by time, unique over gateways, easy to type. @param bytes - two digits each */
export function timedId(bytes = 5, time = new Date()): string {
  const random = Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) =>
    byte.toString(16).padStart(2, '0'),
  );
  return `${time.toISOString().replace(/[-:]|\.\d+/g, '')}-${random.join('')}`;
}
