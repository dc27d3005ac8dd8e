/** End-to-end tests first: they take longest, and the short ones fill up the time of the last of them. */
import Sequencer from '@jest/test-sequencer';

export default class LongKindFirst extends Sequencer {
  /** @override */
  sort(tests) {
    const rank = ({ path }) =>
      path.includes('/e2e/') ? 0 : path.includes('/contract/') || path.includes('/attacks/') ? 1 : 2;
    return [...super.sort(tests)].sort((a, b) => rank(a) - rank(b));
  }
}
