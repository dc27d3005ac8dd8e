/**
 * Which Node.js gets fixes, until when, and from which release on it has those that matter to a gateway: the one table of release lines.
 *
 * Sources, read on 2026-11-26: https://github.com/nodejs/Release (schedule.json) for the dates; Node's change logs for what a release fixes;
 * https://www.debian.org/releases/trixie/ and the change log of Debian's package for its own build. docs/node.md says how to renew it.
 */

/** The release line to install: in long-term support, and the one that the container and the packages are made and tested with. */
export const RECOMMENDED_LINE = 26;

/** A release line of Node, as nodejs.org makes it. Dates are days, YYYY-MM-DD. */
interface Line {
  /** The last day on which it gets fixes. */
  readonly end: string;
  /** The first release without the holes in HTTP/2 that are known; undefined when there is none. */
  readonly fixed?: string;
}

/** A line that is not here is newer than the table, and nothing is said of it. */
export const NODE_LINES: ReadonlyMap<number, Line> = new Map([
  [20, { end: '2026-04-30' }],
  [21, { end: '2024-06-01' }],
  [22, { end: '2027-04-30', fixed: '22.23.2' }],
  [23, { end: '2025-06-01' }],
  [24, { end: '2028-04-30', fixed: '24.18.1' }],
  [25, { end: '2026-06-01' }],
  [RECOMMENDED_LINE, { end: '2029-04-30', fixed: '26.5.1' }],
]);

/** Debian's own package, which goes on getting fixes after its line's end: version without Debian's updates, and the update to have. */
const DEBIAN = [{ release: 13, version: '20.19.2+dfsg-1', update: 3, end: '2028-08-09' }] as const;

/** The Node.js that runs. */
interface Runtime {
  /** `20.19.2` */
  readonly version: string;
  /** The version of Debian's own package, where that is what runs: `20.19.2+dfsg-1+deb13u3`. */
  readonly debian?: string | undefined;
}

/**
 * What is wrong with running this Node.js today, with what to do; undefined when it gets fixes, has those that are known to matter, or is
 * newer than the table.
 */
export function runtimeTrouble({ version, debian }: Runtime, today: Date): string | undefined {
  const day = today.toISOString().slice(0, 10);
  const own = debian === undefined ? undefined : debianUpdate(debian);
  if (own !== undefined) {
    const { release, end, update, version: base } = own.from;
    if (day > end)
      return `Node.js ${version} of Debian ${release} no longer gets fixes, since ${end}; ${installInstead(day)}`;
    return own.update < update
      ? `Debian's nodejs ${debian ?? ''} lacks fixes for known vulnerabilities in HTTP/2; update it (apt upgrade) to ${base}+deb${release}u${update} or newer`
      : undefined;
  }
  const line = NODE_LINES.get(Number.parseInt(version, 10));
  if (line === undefined) return undefined;
  if (day > line.end) return `Node.js ${version} no longer gets fixes, since ${line.end}; ${installInstead(day)}`;
  // Of a package with patches of its own the number says nothing.
  if (debian !== undefined || line.fixed === undefined || !isOlder(version, line.fixed)) return undefined;
  return `Node.js ${version} lacks fixes for known vulnerabilities in HTTP/2; update it to ${line.fixed} or newer`;
}

function installInstead(day: string): string {
  const recommended = NODE_LINES.get(RECOMMENDED_LINE);
  const which = recommended === undefined || day > recommended.end ? 'one that does' : `Node.js ${RECOMMENDED_LINE}`;
  return `install ${which} (docs/node.md)`;
}

/** Which of `DEBIAN` a package's version is, and with which update of Debian's. */
function debianUpdate(
  version: string,
): { readonly from: (typeof DEBIAN)[number]; readonly update: number } | undefined {
  for (const from of DEBIAN) {
    if (version === from.version) return { from, update: 0 };
    const suffix = `${from.version}+deb${from.release}u`;
    if (version.startsWith(suffix)) return { from, update: Number.parseInt(version.slice(suffix.length), 10) };
  }
  return undefined;
}

/** Of two versions like `22.9.0`, whether the first is the older one. */
function isOlder(version: string, than: string): boolean {
  const [mine, other] = [version, than].map((one) => one.split(/[.-]/, 3).map(Number));
  for (const [index, part] of (other ?? []).entries()) {
    const own = mine?.[index] ?? 0;
    if (own !== part) return own < part;
  }
  return false;
}
