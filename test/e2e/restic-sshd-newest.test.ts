/** Every story through the newest sshd and ssh. */
import { describeRestic } from '../support/restic-stories.ts';

describeRestic('newest sshd and ssh');
