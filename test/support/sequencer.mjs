/**
 * The longest first, so that none of them is left alone at the end. Where jest has run a file before, it knows how long it took; a fresh
 * clone, such as CI has, goes by the table.
 */
import path from 'node:path';
import Sequencer from '@jest/test-sequencer';

/** Seconds on two quiet processors with two other files beside, of what takes long; it only has to be about right. */
const SECONDS = {
  e2e: {
    ...{ large: 290, faults: 200, trash: 140, probe: 140, debian13: 130, 'restic-ssh-server': 120 },
    ...{ 'restic-sshd-newest': 100, interop: 100, container: 100, packages: 100, docs: 250, 'restic-sshd-command': 90 },
    ...{ 'restic-sshd-line': 80, reload: 75, 'node-versions': 70, admin: 70, scrub: 60, 'as-root': 60, terminal: 55 },
    ...{ kills: 55 },
  },
  attacks: {
    ...{ retention: 220, memory: 170, 'deferred-removals': 160, 'trash-kills': 140, 'login-floods': 120 },
    ...{ 'hostile-soak': 90, undo: 80, 'small-objects': 45, failures: 45, 's3-demands': 45, descriptors: 40 },
  },
  contract: { 'directory-store': 65, 's3-faults': 65, 's3-store': 40 },
};

/** Of a file that is not in the table, by its kind. */
const USUAL_SECONDS = { e2e: 30, attacks: 20, contract: 10 };

export default class LongestFirst extends Sequencer {
  /** @override */
  sort(tests) {
    const expectedMs = ({ path: file, duration }) => {
      const kind = path.basename(path.dirname(file));
      return duration ?? 1000 * (SECONDS[kind]?.[path.basename(file, '.test.ts')] ?? USUAL_SECONDS[kind] ?? 3);
    };
    return [...super.sort(tests)].sort((a, b) => expectedMs(b) - expectedMs(a));
  }
}
