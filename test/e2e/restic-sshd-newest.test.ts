/** Every story through the newest sshd and ssh on S3; Debian's has them on a directory. */
import { describeRestic } from '../support/restic-stories.ts';

describeRestic('newest sshd and ssh', ['s3']);
