/** `restic-gateway reload`: has a running `serve` take up the config, and fails when the config is wrong or was not taken up. */
import { setTimeout as sleep } from 'node:timers/promises';
import { configState } from '../config/file-state.ts';
import { loadConfig } from '../config/load.ts';
import { printableLines } from '../core/printable.ts';
import { isRunning } from '../state/processes.ts';
import { whoServes } from '../state/serving.ts';
import { chooseConfigFile, goOnAsUser } from './own-user.ts';
import { makeRoom, openProgress, print } from './progress.ts';

/** How long a `serve` may take, in ms: it may be taking up another change, and asks its workers and stores. */
const PATIENCE_MS = 60_000;
const POLL_MS = 50;

/**
 * @param given.force - confirms a config that takes much away, which `serve` would not take up else
 * @returns the exit status: 0 when every `serve` with this config has taken it up, 1 when none runs or one has not
 * @throws GatewayError `invalid-config` when its text is wrong, which is found before any `serve` hears of it; `serve` reads the secrets, as
 *   systemd's credentials are its alone
 */
export async function runReload({
  config: option,
  quiet,
  force,
}: {
  readonly config: string | undefined;
  readonly quiet: boolean;
  readonly force: boolean;
}): Promise<number> {
  const found = chooseConfigFile(option);
  const { clientsDirectory } = loadConfig(found);
  const state = (): string => configState(found, clientsDirectory);
  const before = state();
  const config = loadConfig(found);
  await goOnAsUser(config);
  const serving = await whoServes(config.state, config.file);
  if (serving.length === 0)
    return failed(`no serve runs with ${config.file} and ${config.state}; a change of state needs a restart`);
  for (const one of serving) process.kill(one.pid, 'SIGHUP');
  let status = 0;
  const bar = openProgress(`waiting for serve (process ${serving.map(({ pid }) => pid).join(', ')})`);
  for (const { pid, begun, hangUps } of serving) {
    let asked = hangUps;
    const end = performance.now() + PATIENCE_MS;
    for (;;) {
      const now = (await whoServes(config.state, config.file)).find((one) => one.pid === pid);
      if (now !== undefined && now.hangUps > asked && now.file === before) {
        if (now.waits && force && asked === hangUps) {
          asked = now.hangUps;
          process.kill(pid, 'SIGHUP');
          continue;
        }
        if (!now.taken) status = failed(`the config is not taken up: ${now.words}`);
        else if (!quiet) print(`${printableLines(now.words)}\n`);
        break;
      }
      if (!isRunning({ pid, begun })) status = failed(`serve (process ${pid}) has ended`);
      else if (state() !== before) status = failed(`${config.file} has changed meanwhile; run this again`);
      else if (performance.now() > end)
        status = failed(`serve (process ${pid}) has not answered in ${PATIENCE_MS / 1000} s`);
      if (status !== 0) break;
      await sleep(POLL_MS);
    }
  }
  bar.clear();
  return status;
}

function failed(words: string): 1 {
  makeRoom();
  process.stderr.write(`${printableLines(`restic-gateway: ${words}`)}\n`);
  return 1;
}
