/**
 * Which `serve` processes run on this machine, and how each one's newest reading of its config went, so that whoever asked for it learns that:
 * one file for each, below `serving` in the directory `state`.
 */
import { readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { count, flag, record, text } from '../core/shape.ts';
import { isRunning, ownProcess, type ProcessMark } from './processes.ts';
import { readShape, replaceStateFile } from './state-file.ts';

/** How a config was read again. */
export interface Reading {
  /** How many times this process has been asked to by SIGHUP and is done with it. */
  readonly hangUps: number;
  /** What `fileState` said of the file when it began to read. */
  readonly file: string;
  /** Whether this config is the one in use now. */
  readonly taken: boolean;
  /** Whether it would be, and waits to be confirmed by another SIGHUP, since it takes much away. */
  readonly waits: boolean;
  /** What has changed, or why nothing has. */
  readonly words: string;
}

/** A `serve` that runs. */
interface Serving extends ProcessMark, Reading {
  /** Absolute path of its config file. */
  readonly config: string;
}

/** As many problems as a config may have are told in at most so many characters. */
const MOST_WORDS = 20_000;
const MOST_BYTES = 256 * 1024;

const isServing = record({
  ...{ pid: count, begun: count, config: text(5000), hangUps: count, file: text(200), taken: flag, waits: flag },
  words: text(MOST_WORDS),
});

/** Writes down how this process has read its config. @throws Error of the file system */
export async function writeServing(state: string, config: string, reading: Reading): Promise<void> {
  const words = reading.words.slice(0, MOST_WORDS);
  await replaceStateFile(ownFile(state), `${JSON.stringify({ ...ownProcess(), config, ...reading, words })}\n`);
}

/** Takes this process out again. What cannot be removed is seen to be over by its process. */
export async function leaveServing(state: string): Promise<void> {
  await rm(ownFile(state), { force: true }).catch(() => undefined);
}

/** Those that run with a config file now; what others have left behind is removed. */
export async function whoServes(state: string, config: string): Promise<readonly Serving[]> {
  const directory = join(state, 'serving');
  const found: Serving[] = [];
  for (const name of namesIn(directory)) {
    const file = join(directory, name);
    const one = await readShape(file, MOST_BYTES, isServing);
    if (one === undefined || !isRunning(one)) await rm(file, { force: true }).catch(() => undefined);
    else if (one.config === config) found.push(one);
  }
  return found;
}

function ownFile(state: string): string {
  const { pid, begun } = ownProcess();
  return join(state, 'serving', `${pid}-${begun}.json`);
}

function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory).filter((name) => /^\d+-\d+\.json$/.test(name));
  } catch {
    return [];
  }
}
