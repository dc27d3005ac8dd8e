/**
 * Prometheus' text format, written in pieces, so that the sessions of this process have their turn however many clients there are.
 *
 * Source: https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
 */
import { setImmediate } from 'node:timers/promises';

/** Labels by name; a label's order is that of its sample. */
export type Labels = Readonly<Record<string, string | number>>;

/** How long may be written before others have their turn, in ms. */
const TURN_MS = 5;
/** After how many samples there is a look at the clock. */
const LOOK_EACH = 64;
/** What is made a buffer at a time, in characters. */
const PIECE = 128 * 1024;

/** Takes a text line by line. */
export interface TextWriter {
  /** Begins a metric. @param help - a line */
  family(name: string, help: string, type: string): void;
  /** @param name - its metric's, or with `_bucket` and the like behind it */
  sample(name: string, labels: Labels, value: number): void;
  /** Whether enough was written in one turn of the event loop: `rest` is to be awaited then. */
  isLong(): boolean;
  rest(): Promise<void>;
  /** Adds lines that are whole. */
  add(lines: string): void;
  end(): Buffer;
}

export function openTextWriter(): TextWriter {
  const pieces: Buffer[] = [];
  let text = '';
  let since = performance.now();
  let written = 0;
  const flush = (): void => {
    pieces.push(Buffer.from(text));
    text = '';
  };
  const add = (lines: string): void => {
    text += lines;
    if (text.length >= PIECE) flush();
  };
  return {
    add,
    family: (name, help, type) => {
      add(`# HELP ${name} ${help.replace(/\\/g, '\\\\').replace(/\n/g, '\\n')}\n# TYPE ${name} ${type}\n`);
    },
    sample: (name, labels, value) => {
      written += 1;
      add(`${sampleName(name, labels)} ${formatValue(value)}\n`);
    },
    isLong: () => {
      if (written < LOOK_EACH) return false;
      written = 0;
      return performance.now() - since >= TURN_MS;
    },
    rest: async () => {
      await setImmediate();
      since = performance.now();
    },
    end: () => {
      flush();
      return Buffer.concat(pieces);
    },
  };
}

/** `name{label="value"}`, by which a sample is known. */
export function sampleName(name: string, labels: Labels): string {
  let inner = '';
  for (const label in labels) {
    const value = labels[label];
    if (value !== undefined) inner += `${inner === '' ? '' : ','}${label}="${escaped(String(value))}"`;
  }
  return inner === '' ? name : `${name}{${inner}}`;
}

const TO_ESCAPE = /[\\"\n]/;

function escaped(value: string): string {
  if (!TO_ESCAPE.test(value)) return value;
  return value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
}

function formatValue(value: number): string {
  if (value === Infinity) return '+Inf';
  return value === -Infinity ? '-Inf' : String(value);
}
