/** Every story through the sshd, AuthorizedKeysCommand. */
import { describeRestic } from '../support/restic-stories.ts';

describeRestic('sshd, AuthorizedKeysCommand');
