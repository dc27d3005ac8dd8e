/** Every story through sshd with lines in authorized_keys; the newest sshd has them on S3. */
import { describeRestic } from '../support/restic-stories.ts';

describeRestic('sshd, authorized_keys', ['directory']);
