/** What the tests of the config are made of: keys, and YAML that keeps its shape inside of indented code. */

/** The line of a `.pub` file, a different key for each number. */
export function keyLine(seed: number, comment = `host-${seed}`): string {
  const wire = Buffer.concat([Buffer.from('\0\0\0\x0bssh-ed25519\0\0\0\x20', 'latin1'), Buffer.alloc(32, seed)]);
  return `ssh-ed25519 ${wire.toString('base64')} ${comment}`.trim();
}

/** The text without the indentation of its first line, and without the line breaks around it. */
export function yaml(strings: TemplateStringsArray, ...values: readonly (string | number)[]): string {
  const text = String.raw({ raw: strings }, ...values).replace(/^\n/, '');
  const indent = /^ */.exec(text)?.[0] ?? '';
  return text
    .split('\n')
    .map((line) => (line.startsWith(indent) ? line.slice(indent.length) : line.trimStart()))
    .join('\n')
    .trimEnd();
}

/** Runs `work` as a user to whom modes apply: root may read everything. */
export function asNobody<T>(work: () => T): T {
  if (process.geteuid?.() !== 0) return work();
  process.seteuid?.(65534);
  try {
    return work();
  } finally {
    process.seteuid?.(0);
  }
}
