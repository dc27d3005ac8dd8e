/** The first config as text: commented, and holding what was asked for. */

/** What the first config says. */
interface FirstConfig {
  /** The user that the gateway runs as, where that is not the one who starts it. */
  readonly user: string | undefined;
  /** HOST:PORT. */
  readonly listen: string;
  readonly hostKey: string;
  readonly store: FirstStore;
  readonly auditFile: string;
}

/** The store of the first config. */
export type FirstStore =
  | { readonly type: 'directory'; readonly path: string }
  | {
      readonly type: 's3';
      readonly bucket: string;
      readonly region: string | undefined;
      readonly endpoint: string | undefined;
      /** Undefined: the credentials of the machine. */
      readonly credentials: { readonly accessKeyId: string; readonly secretAccessKeyFile: string } | undefined;
    };

/** @param store - its entry is named `main` */
export function firstConfig({ user, listen, hostKey, store, auditFile }: FirstConfig): string {
  return `# restic-gateway. Check a change with: restic-gateway check. A running gateway takes up most changes by itself.

${user === undefined ? '' : `# The user that the gateway runs as. root's commands go on as this one.\nuser: ${word(user)}\n\n`}# Where clients connect.
listen: ${word(listen)}${/^\d+$/.test(listen) ? ' # of all addresses, IPv4 and IPv6' : ''}
hostKeys: [${word(hostKey)}]

stores:
  main:
${storeLines(store)}
# Who may back up, and where: restic-gateway client add NAME writes here.
clients:

# One line for every session, every object that came and everything that was refused. What the processes of this machine
# share is in the directory \`state\` beside it.
audit: { file: ${word(auditFile)} }
`;
}

function storeLines(store: FirstStore): string {
  if (store.type === 'directory')
    return `    type: directory\n    path: ${word(store.path)} # repositories are directories below it\n`;
  const { bucket, region, endpoint, credentials } = store;
  const lines = ['type: s3', `bucket: ${word(bucket)}`];
  if (region !== undefined) lines.push(`region: ${word(region)}`);
  if (endpoint !== undefined) lines.push(`endpoint: ${word(endpoint)}`);
  if (credentials === undefined)
    lines.push("# credentials: those of the machine (instance role, ~/.aws, environment), by the SDK's own chain");
  else
    lines.push(
      `accessKeyId: ${word(credentials.accessKeyId)}`,
      `secretAccessKeyFile: ${word(credentials.secretAccessKeyFile)} # readable by the gateway's user alone`,
    );
  return lines.map((line) => `    ${line}\n`).join('');
}

/** A value in YAML, quoted where it might be taken for something else. */
function word(value: string): string {
  return /^[A-Za-z0-9/][\w./:@+-]*$/.test(value) && !value.endsWith(':') ? value : JSON.stringify(value);
}
