/** Names for what is made once and looked for later. */

/** `20261123T211500Z-` and random hex digits: sorts by time, unique over gateways, easy to type. @param bytes - two digits each */
export function timedId(bytes = 5, time = new Date()): string {
  const random = Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) =>
    byte.toString(16).padStart(2, '0'),
  );
  return `${time.toISOString().replace(/[-:]|\.\d+/g, '')}-${random.join('')}`;
}

/** When something with such an id was made, to the second; undefined for what is no such id. */
export function timeOfId(id: string): Date | undefined {
  const [, year, month, day, hour, minute, second] =
    /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-[0-9a-f]+$/.exec(id) ?? [];
  if (second === undefined) return undefined;
  const time = new Date(`${year ?? ''}-${month ?? ''}-${day ?? ''}T${hour ?? ''}:${minute ?? ''}:${second}Z`);
  return Number.isNaN(time.getTime()) ? undefined : time;
}
