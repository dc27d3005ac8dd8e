/** Every story through sshd with AuthorizedKeysCommand; the newest sshd has them on S3. */
import { describeRestic } from '../support/restic-stories.ts';

describeRestic('sshd, AuthorizedKeysCommand', ['directory']);
