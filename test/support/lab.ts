/** The lab: real peers for tests to run against. `scripts/lab/setup` fetches them. */
export { makeTree, sameTree, tempDir } from './lab-files.ts';
export { lab, restic } from './lab-peers.ts';
export { freePort, run, startProcess, type LabProcess, type Outcome } from './lab-process.ts';
export { newBucket, s3 } from './lab-s3.ts';
export { generateKey, sshClientArgs, startSshd, type KeyFiles } from './lab-ssh.ts';
