/** The commands and their options, as `--help`, completion and the manual page show them. */
import { clientCommands } from './client.ts';
import { command, flag, group, text, type Command } from './command-line/command.ts';

/** For timers, whose mail should have something to say. */
const QUIET = { ...flag('print nothing when everything is OK'), short: 'q' } as const;
const SILENT = { ...flag('print nothing but errors'), short: 'q' } as const;
const JSON_LINES = flag('print JSON: one object a line');
const CLIENT = { takes: 'one', about: 'name of the client in the config', kind: 'client' } as const;
const SOME_CLIENT = { ...CLIENT, takes: 'optional' } as const;
const DRY_RUN = { ...flag('change nothing, and show what would be done'), short: 'n' } as const;
const SINCE = 'a time such as 2h, 7d, yesterday or 2026-11-25T18:00';

/** The options by which events and sessions of the audit are chosen. */
const SELECTING = {
  client: text('NAME', "one client's", 'client'),
  session: text('ID', 'one session, by its id', 'session'),
  since: text('TIME', `from then on: ${SINCE}`),
  until: text('TIME', 'up to then'),
  limit: { type: 'number', value: 'COUNT', default: 100, about: 'how many at most' },
  json: JSON_LINES,
} as const;

const HOLD_CLIENT = {
  type: 'text-or-no',
  value: 'TIME',
} as const;

const check = command({
  name: 'check',
  about: 'check the config, host keys and secrets, as serve would read them',
  options: {
    live: flag('try every store too, with small objects, and that serve could write and listen'),
    user: text('NAME', 'with --live, as this user; and where sshd has it as the login user, try logins too'),
    'sshd-config': text('FILE', "sshd's settings, with --user; /etc/ssh/sshd_config unless given", 'file'),
    json: JSON_LINES,
    quiet: QUIET,
  },
  examples: [
    ['check --live', 'reads the config, and tries that each store keeps what it must'],
    ['check --live --user restic-gateway', 'as that user, and logs in through sshd if it is set up'],
  ],
  run: async (given) =>
    given.user === undefined
      ? (await import('./check.ts')).runCheck(given)
      : (await import('./check-user.ts')).runCheckAs({ ...given, user: given.user }),
});

const init = command({
  name: 'init',
  about: 'write a first config, host key and directories, and try the store',
  more: 'At a terminal it asks for what the options leave open. All of it is made, or nothing; what is there is kept.',
  options: {
    s3: text('BUCKET', 'an S3 bucket to store backups in'),
    endpoint: text('URL', "URL of the S3 server; AWS's unless given"),
    region: text('REGION', 'region of the bucket; needed for AWS'),
    'access-key-id': text('ID', "key id for the bucket; the machine's own credentials unless given"),
    'secret-access-key-file': text('FILE', 'file that holds the secret of the key id, chmod 600', 'file'),
    dir: text('PATH', 'a directory of this machine to store backups in', 'directory'),
    listen: text('HOST:PORT', 'where to serve; port 2222 of all addresses unless given'),
    user: text('NAME', 'the user that the gateway runs as; restic-gateway where that is there'),
    quiet: SILENT,
  },
  examples: [
    ['init', 'asks for all that is needed'],
    ['init --dir /srv/backups', 'stores backups in a directory'],
    ['init --s3 backups --region eu-central-1', 'stores backups in a bucket of AWS'],
  ],
  run: async (given) => (await import('./init.ts')).runInit(given),
});

const sshdSetup = command({
  name: 'sshd-setup',
  about: "let clients in through this machine's sshd: login user, files and settings, tried by a login",
  more: 'All of it is done and holds, or nothing is changed. The lines for sshd_config are printed, and are yours to put there. Run again, it changes only what is missing.',
  options: {
    user: text(
      'NAME',
      "the user that all clients log in as, and that the gateway runs as; the config's user unless given",
    ),
    'sshd-config': text('FILE', "sshd's settings; /etc/ssh/sshd_config unless given", 'file'),
    'dry-run': DRY_RUN,
    quiet: SILENT,
  },
  examples: [
    ['sshd-setup --user restic-gateway --dry-run', 'shows what it would change, and the lines for sshd_config'],
    ['sshd-setup --user restic-gateway', 'does it, and tries a login'],
  ],
  run: async (given) => (await import('./sshd-setup.ts')).runSshdSetup(given),
});

const probe = command({
  name: 'probe',
  about: 'as a client over SSH: try to overwrite, delete and escape, and say what held',
  positionals: { host: { takes: 'one', about: 'HOST, HOST:PORT or [IPV6]:PORT; port 22 unless given' } },
  options: {
    identity: { ...text('FILE', "the client's private key", 'file'), short: 'i', required: true },
    'second-key': text('FILE', "a key of another client of the repository, to try another's lock", 'file'),
    'known-hosts': text('FILE', 'where the host key is; ~/.ssh/known_hosts unless given', 'file'),
    'host-key': text('SHA256:…', 'the fingerprint of the host key instead'),
    user: text('NAME', 'user to log in as; this one unless given'),
    timeout: { type: 'number', value: 'SECONDS', default: 30, about: 'for each step' },
    json: JSON_LINES,
  },
  examples: [
    ['probe backup.example.com:2222 -i ~/.ssh/backup_key', 'tries as the client what a thief of its key would'],
  ],
  run: async (given) => (await import('./probe.ts')).runProbe(given),
});

const restic = command({
  name: 'restic',
  about: "run the local restic with full access to a client's repository",
  positionals: { client: CLIENT },
  options: {
    'hold-client': {
      ...HOLD_CLIENT,
      about:
        'hold new runs of the client back meanwhile, and wait so long for those that hold a lock (10min unless given); done by itself for restic commands that need the repository alone, unless --no-hold-client',
    },
    'end-sessions': flag('after that wait, end the sessions of clients that still hold a lock'),
    'override-protect': flag('remove snapshots that are protected, too; the audit log says so'),
  },
  passesOn: 'ARGS',
  examples: [
    ['restic appsrv -- snapshots', "lists the client's snapshots"],
    ['restic appsrv -- check', 'verifies that all of its snapshots are whole'],
  ],
  run: async ({ config, client, holdClient, endSessions, overrideProtect }, args) =>
    (await import('./restic.ts')).runRestic({ config, client, args, holdClient, endSessions, overrideProtect }),
});

const forget = command({
  name: 'forget',
  about: 'remove the snapshots that the retention of the config does not keep, by when they arrived, and prune',
  positionals: { client: SOME_CLIENT },
  options: {
    all: flag('the repositories of all clients that have a retention'),
    'dry-run': DRY_RUN,
    'group-by': text('KEYS', 'host, paths, tags, instead of what the config says'),
    'accept-time': {
      type: 'list',
      value: 'ID',
      about: 'a snapshot that rightly claims another time than it arrived at, or all: an import',
    },
    prune: { type: 'flag', default: true, about: 'do not remove what nothing uses any more' },
    'without-password': flag('keep or drop whole days, to the trash; nothing is pruned'),
    'hold-client': {
      ...HOLD_CLIENT,
      about: 'wait so long for runs that hold a lock (10min unless given), as restic-gateway restic does',
    },
    'end-sessions': flag('after that wait, end the sessions that still hold a lock'),
    json: JSON_LINES,
    quiet: QUIET,
  },
  examples: [
    ['forget appsrv --dry-run', 'shows what would stay and what would go'],
    ['forget --all --quiet', 'for a timer'],
  ],
  run: async (given) => (await import('./forget.ts')).runForget(given),
});

/** How `forget` does what only the gateway's user may. */
const snapshotRecords = command({
  name: 'snapshot-records',
  about: 'what forget lets the user of the gateway do',
  positionals: { client: CLIENT },
  examples: [],
  hidden: true,
  run: async (given) => (await import('./snapshot-records.ts')).runSnapshotRecords(given),
});

/** How `client add` looks where a repository is to be. */
const lookAtPlace = command({
  name: 'look-at-place',
  about: 'what client add lets the user of the gateway look at',
  options: {
    store: { ...text('NAME', 'store'), required: true },
    prefix: { ...text('PATH', 'path in it'), required: true },
  },
  examples: [],
  hidden: true,
  run: async (given) => (await import('./client/place.ts')).runLookAtPlace(given),
});

const scrub = command({
  name: 'scrub',
  about: "read every object of a client's repository and check it against its name",
  positionals: { client: SOME_CLIENT },
  options: {
    all: flag('the repositories of all clients'),
    quick: flag('by names, sizes and the checksums that the store keeps; reads no content'),
    restart: flag('from the start, not where one was stopped'),
    bandwidth: text('RATE', 'the most to read, such as 50MiB/s'),
    json: JSON_LINES,
    quiet: QUIET,
  },
  examples: [
    ['scrub appsrv', 'reads all that appsrv has stored'],
    ['scrub --all --quiet --bandwidth 50MiB/s', 'for a timer'],
  ],
  run: async (given) => (await import('./scrub.ts')).runScrub(given),
});

const extend = command({
  name: 'extend',
  about: "Object Lock: renew the retention of what is still in a client's repository; for a timer",
  positionals: { client: SOME_CLIENT },
  options: {
    all: flag('all repositories whose store has objectLock'),
    'when-under': text(
      'TIME',
      'renew what is retained for less than this, such as 10d; half of the days of objectLock unless given',
    ),
    'dry-run': DRY_RUN,
    rate: text('RATE', 'the most objects a second, such as 100/s'),
    json: JSON_LINES,
    quiet: QUIET,
  },
  examples: [['extend --all --quiet', 'for a timer']],
  run: async (given) => (await import('./extend.ts')).runExtend(given),
});

const undo = command({
  name: 'undo',
  about: 'take back what sessions of a client added: shows it, and with --yes moves it into quarantine',
  positionals: { client: CLIENT },
  options: {
    session: text('ID', 'what this session added', 'session'),
    since: text('TIME', `what came since then: ${SINCE}`),
    'dry-run': { ...flag('change nothing, which is so without --yes'), short: 'n' },
    yes: flag('do it'),
    force: flag('even though the client is not disabled'),
    list: flag('show the quarantines of the repository'),
    restore: text('UNDO', 'bring back what an undo took; its id', 'undo'),
    json: JSON_LINES,
  },
  examples: [
    ['undo appsrv --since 2h', 'shows what came in the last two hours'],
    ['undo appsrv --since 2h --yes', 'moves that into quarantine'],
  ],
  run: async (given) => (await import('./undo.ts')).runUndo(given),
});

const trash = group({
  name: 'trash',
  about: 'what was removed, and how it comes back',
  examples: [],
  commands: [
    command({
      name: 'list',
      about: 'what the trash holds, by the session that removed it',
      positionals: { client: CLIENT },
      options: { json: JSON_LINES },
      examples: [['trash list appsrv', 'shows what can be brought back, and until when']],
      run: async (given) => (await import('./trash.ts')).runTrashList(given),
    }),
    command({
      name: 'restore',
      about: 'bring back what was removed',
      positionals: { client: CLIENT },
      options: {
        since: text('TIME', `what was removed since then: ${SINCE}`),
        session: text('ID', 'what this session removed', 'session'),
        all: flag('all of it'),
        json: JSON_LINES,
      },
      examples: [['trash restore appsrv --since yesterday', 'brings back what was removed since then']],
      run: async (given) => (await import('./trash.ts')).runTrashRestore(given),
    }),
    command({
      name: 'purge',
      about: 'remove for good what is older than the trash keeps it; serve does so daily',
      positionals: { client: SOME_CLIENT },
      options: {
        all: flag('the trash of all clients; for a timer'),
        'older-than': text(
          'TIME',
          "what was removed longer ago than this, such as 14d; the client's trash unless given",
        ),
        json: JSON_LINES,
        quiet: QUIET,
      },
      examples: [['trash purge --all --quiet', 'for a timer, where no serve runs']],
      run: async (given) => (await import('./trash.ts')).runTrashPurge(given),
    }),
  ],
});

const status = command({
  name: 'status',
  about: "whether every client's backup is OK; ends with 1 when one is not",
  positionals: { client: { ...SOME_CLIENT, about: 'all that is known of this one' } },
  options: {
    json: JSON_LINES,
    quiet: { ...flag('only those that are not OK; nothing when all are'), short: 'q' },
    acknowledge: flag('the open anomalies were seen, and are not shown any more'),
    nagios: flag('one line, and the exit status of a Nagios plugin: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN'),
    report: flag('write new anomalies into the audit, as serve does; for a timer'),
  },
  examples: [
    ['status', 'lists the clients, the worst first'],
    ['status appsrv', 'says all that is known of one, and what to do'],
    ['status --nagios', 'for Nagios, Icinga and the like'],
    ['status --quiet --report', 'for a timer: prints only what is not OK'],
  ],
  run: async (given) => (await import('./status.ts')).runStatus(given),
});

const sessions = command({
  name: 'sessions',
  about: 'the newest sessions and what they did, the latest last',
  options: SELECTING,
  examples: [['sessions --client appsrv --since 7d', "appsrv's sessions of the last week"]],
  run: async (given) => (await import('./audit-show.ts')).runSessions(given),
});

const audit = group({
  name: 'audit',
  about: 'look into the audit, verify it and copy it',
  examples: [],
  commands: [
    command({
      name: 'show',
      about: 'the newest events, the latest last',
      options: { ...SELECTING, kind: text('KIND', 'one kind of event: create, denied, …', 'event') },
      examples: [['audit show --client appsrv --kind denied', 'what appsrv was refused']],
      run: async (given) => (await import('./audit-show.ts')).runAuditShow(given),
    }),
    command({
      name: 'verify',
      about: 'whether the audit is as it was written; names the first bad line and ends with 1 when it is not',
      positionals: { files: { takes: 'rest', about: "files to verify instead of the config's", kind: 'file' } },
      options: {
        copy: flag('against its copy too: shows what root on this host has changed'),
        json: JSON_LINES,
        quiet: QUIET,
      },
      examples: [['audit verify --copy', 'verifies the audit of the config, and compares it with its copy']],
      run: async (given) => (await import('./audit.ts')).runAuditVerify(given),
    }),
    command({
      name: 'copy',
      about: 'copy what is new to where audit.copy says; serve does so by itself',
      options: { quiet: QUIET },
      examples: [['audit copy --quiet', 'for a timer, where no serve runs']],
      run: async (given) => (await import('./audit.ts')).runAuditCopy(given),
    }),
  ],
});

const gateways = command({
  name: 'gateways',
  about: 'the gateways that share the database, and whom they refuse; ends with 1 when one is away or differs',
  options: {
    lift: text('CLIENT', 'take back that other gateways refuse this client', 'client'),
    forget: text('GATEWAY', 'forget a gateway that is gone for good, and what it has refused'),
    json: JSON_LINES,
    quiet: { ...flag('nothing when all is well'), short: 'q' },
  },
  examples: [
    ['gateways', 'which run, with which config, and who is refused by all'],
    ['gateways --lift appsrv', 'lets appsrv in again that another gateway has disabled'],
  ],
  run: async (given) => (await import('./gateways.ts')).runGateways(given),
});

const notify = group({
  name: 'notify',
  about: 'whom the gateway tells of problems',
  examples: [],
  commands: [
    command({
      name: 'test',
      about: 'send a test message, and say whether it was taken',
      positionals: { target: { takes: 'one', about: 'name of a target below notify in the config', kind: 'target' } },
      options: { json: JSON_LINES },
      examples: [['notify test admins', 'sends a test to the target admins']],
      run: async (given) => (await import('./notify.ts')).runNotifyTest(given),
    }),
    command({
      name: 'list',
      about: 'every target, whether it can be reached, and what it is yet to be told',
      options: { json: JSON_LINES },
      examples: [['notify list', 'shows when each target was last reached']],
      run: async (given) => (await import('./notify.ts')).runNotifyList(given),
    }),
  ],
});

/** The program: all of its commands, in the order in which an admin meets them. */
export const PROGRAM: Command = {
  name: 'restic-gateway',
  about: 'an append-only gateway between restic clients and the storage of their backups',
  ...{ positionals: {}, options: {} },
  examples: [
    ['init', 'writes a first config, and asks for what it needs'],
    ['client add appsrv --generate', 'makes a key for a client, and prints what its machine needs'],
    ['status', "whether every client's backup is OK"],
  ],
  commands: [
    init,
    check,
    sshdSetup,
    command({
      name: 'serve',
      about: 'serve restic clients over SSH, until stopped',
      examples: [['serve', 'serves by the config, in the foreground']],
      run: async ({ config }) => (await import('./serve.ts')).runServe({ config }),
    }),
    command({
      name: 'reload',
      about: 'have the serve that runs take up the config; fails when the config is wrong or is not taken up',
      options: {
        quiet: SILENT,
        force: flag('take it up although it leaves out many clients, or a store that is in use'),
      },
      examples: [['reload', 'checks the config, then has serve read it again, and says what has changed']],
      run: async (given) => (await import('./reload.ts')).runReload(given),
    }),
    command({
      name: 'health',
      about: 'ask the serve that runs whether it would serve a session; fails when it would not',
      options: { quiet: SILENT },
      examples: [['health', "asks /readyz, as a container's health check does"]],
      run: async (given) => (await import('./health.ts')).runHealth(given),
    }),
    clientCommands(),
    gateways,
    ...[status, notify, sessions, audit, restic, forget, trash, scrub, undo, extend, probe],
    // These have a parser of their own: main.ts.
    command({
      name: 'authorized-keys',
      about: "print authorized_keys lines for sshd's AuthorizedKeysCommand",
      options: {
        type: text('TYPE', 'of keys of this type, as sshd has it in %t'),
        key: text('KEY', 'of this key, as sshd has it in %k'),
      },
      examples: [['authorized-keys', 'prints a line for each key of each client']],
      run: async () => (await import('./authorized-keys.ts')).runAuthorizedKeys([]),
    }),
    command({
      name: 'authorized-principals',
      about: "print lines of principals for sshd's AuthorizedPrincipalsCommand",
      options: {
        key: text('KEY', 'of this certificate, as sshd has it in %k'),
      },
      examples: [['authorized-principals', 'prints a line for each principal of each client']],
      run: async () => (await import('./authorized-keys.ts')).runAuthorizedPrincipals([]),
    }),
    command({
      name: 'stdio',
      about: 'serve one client on stdin and stdout: the forced command under OpenSSH',
      positionals: { client: CLIENT },
      examples: [['stdio appsrv', 'what command="…" in authorized_keys starts']],
      run: async ({ client }) => (await import('./stdio.ts')).runStdio([client]),
    }),
    command({
      name: 'completion',
      about: 'print the completion script of a shell',
      positionals: { shell: { takes: 'optional', about: 'by $SHELL unless named', kind: ['bash', 'zsh', 'fish'] } },
      examples: [
        ['completion bash >> ~/.bashrc', 'completes in each new bash'],
        ['completion fish > ~/.config/fish/completions/restic-gateway.fish', 'completes in fish'],
      ],
      run: async ({ shell }) => (await import('./completion.ts')).runCompletion(shell),
    }),
    command({
      name: 'complete',
      about: 'what the completion scripts ask',
      positionals: { shell: { takes: 'one', about: 'which shell asks' } },
      passesOn: 'WORDS',
      examples: [],
      hidden: true,
      run: async ({ shell }, words) => (await import('./completion.ts')).runComplete(PROGRAM, shell, words),
    }),
    snapshotRecords,
    lookAtPlace,
  ],
};
