/** Every story through sshd with lines in authorized_keys; the newest sshd has them on both stores. */
import { describeRestic } from '../support/restic-stories.ts';

describeRestic('sshd, authorized_keys', ['directory']);
