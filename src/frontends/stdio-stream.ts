/** A process's stdin and stdout as one duplex stream that never blocks the event loop. */
import { createReadStream, createWriteStream, fstatSync, type Stats } from 'node:fs';
import { Socket } from 'node:net';
import { Duplex, Readable, type Writable } from 'node:stream';

/**
 * Opens descriptors 0 and 1. sshd gives a forced command one socket for both, which Node's HTTP/2 then uses natively; restic itself gives
 * two pipes. `process.stdout` will not do: Node writes to pipes synchronously there.
 */
export function openStdio(): Duplex {
  const input = fstatSync(0);
  const output = fstatSync(1);
  // The two descriptors are this stream's alone. Node would open them once more for whoever touches process.stdin or process.stdout, as
  // importing node:process already does, and fail; and what a library prints must not get between the frames.
  Object.defineProperty(process, 'stdin', { configurable: true, get: () => Readable.from([]) });
  Object.defineProperty(process, 'stdout', { configurable: true, get: () => process.stderr });
  if (input.isSocket() && input.ino === output.ino && input.dev === output.dev)
    return new Socket({ fd: 0, readable: true, writable: true, allowHalfOpen: true });
  const isPipe = (end: Stats): boolean => end.isSocket() || end.isFIFO();
  return new PipePair(
    isPipe(input) ? new Socket({ fd: 0, readable: true, writable: false }) : createReadStream('', { fd: 0 }),
    isPipe(output) ? new Socket({ fd: 1, readable: false, writable: true }) : createWriteStream('', { fd: 1 }),
  );
}

/** Two one-way streams as one. */
class PipePair extends Duplex {
  readonly #input: Readable;
  readonly #output: Writable;

  constructor(input: Readable, output: Writable) {
    super();
    this.#input = input;
    this.#output = output;
    input.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) input.pause();
    });
    input.on('end', () => {
      this.push(null);
    });
    for (const end of [input, output])
      end.on('error', (error) => {
        this.destroy(error);
      });
    output.on('close', () => {
      this.destroy();
    });
  }

  override _read(): void {
    this.#input.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#output.write(chunk, done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this.#output.cork();
    const last = chunks.length - 1;
    chunks.forEach(({ chunk }, index) => {
      if (index === last) this.#output.write(chunk, done);
      else this.#output.write(chunk);
    });
    this.#output.uncork();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#output.end(done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#input.destroy();
    this.#output.destroy();
    done(error);
  }
}
