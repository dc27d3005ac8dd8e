/** Every story through the sshd, authorized_keys. */
import { describeRestic } from '../support/restic-stories.ts';

describeRestic('sshd, authorized_keys');
