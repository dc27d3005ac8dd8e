/** Every story through the ssh server. */
import { describeRestic } from '../support/restic-stories.ts';

describeRestic('ssh server');
