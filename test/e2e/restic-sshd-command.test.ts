/** Every story through sshd with AuthorizedKeysCommand; the newest sshd has them on both stores. */
import { describeRestic } from '../support/restic-stories.ts';

describeRestic('sshd, AuthorizedKeysCommand', ['s3']);
