/**
 * What each room of src may import besides itself: a word is another room, a file of one, or `{several,files}`. Data flows one way: no
 * listener sees a store, the handler never sees SSH, and only the composition roots know everything. The lint rule and the architecture
 * test both read it.
 */
const TABLE = {
  core: '',
  ports: 'core',
  config: 'core',
  state: 'core',
  database: `core ports config/{types,secrets,certificates,values,freeze,load}.ts
    state/{state-file,known-usage,processes,live-sessions}.ts`,
  probe: 'core config/fingerprint.ts',
  web: 'core ports config/certificates.ts state/open-files.ts',
  restic: 'core ports',
  maintenance: 'core ports state/state-file.ts',
  retention: 'core ports config/types.ts maintenance/pool.ts state/state-file.ts',
  limits: 'core ports config/{types,repositories}.ts state/{state-file,processes,open-files,known-usage}.ts',
  audit: 'core ports config/types.ts state/state-file.ts',
  frontends: 'core ports config/{types,trusted-files,fingerprint,authority-key,address-ranges}.ts state/open-files.ts',
  stores: 'core ports config/{types,secrets}.ts state/{processes,open-files}.ts web/way.ts',
  safeguard: 'core ports config/types.ts stores/open-storage.ts state/state-file.ts',
  metrics: 'core ports monitor/client-status.ts',
  notify: `core ports config/{types,notify,secrets,certificates}.ts state/{state-file,processes}.ts
    monitor/{client-status,gateway-problems}.ts web/way.ts`,
  page: 'core ports config/types.ts monitor/client-status.ts',
  monitor: `core ports config/{types,repositories}.ts audit limits state database/kept.ts maintenance/{scrub-state,trash-state}.ts
    retention/extended-state.ts notify/problems.ts`,
  'client-maintenance.ts': 'core ports config stores audit maintenance retention',
  gateway:
    'core ports config database/{ledgers,sessions}.ts limits safeguard audit restic state metrics/measured-store.ts',
  daemon: `core ports config safeguard audit state monitor web page metrics limits/memory-limits.ts frontends
    notify database gateway/gateway.ts client-maintenance.ts`,
  cli: `core ports config safeguard audit database maintenance retention state monitor notify frontends probe limits/memory-limits.ts
    gateway/gateway.ts client-maintenance.ts daemon/{daemon,worker,last-net}.ts`,
};

/** The table taken apart: of each room, the other rooms (`core/`) and single files (`config/types.ts`) that it may import. */
export const LAYERS = Object.fromEntries(
  Object.entries(TABLE).map(([room, words]) => [room, words.split(/\s+/).flatMap(paths)]),
);

function paths(word) {
  const [, before, names, after] = /^(.*)\{(.*)\}(.*)$/.exec(word) ?? [];
  if (names !== undefined) return names.split(',').map((name) => `${before}${name}${after}`);
  if (word === '') return [];
  return [word.endsWith('.ts') ? word : `${word}/`];
}

/** Whether a file may import another, both as paths below src. */
export function mayImport(path, target) {
  const [room] = path.split('/');
  const allowed = [room.endsWith('.ts') ? room : `${room}/`, ...(LAYERS[room] ?? [])];
  return allowed.some((one) => (one.endsWith('/') ? target.startsWith(one) : target === one));
}
