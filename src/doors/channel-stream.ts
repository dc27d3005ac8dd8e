/**
 * An SSH channel as a well-behaved duplex stream: it waits for the TCP socket and for key exchanges as well as for the SSH window, packs
 * small writes into full packets, and lets the exit status out before it closes.
 */
import { Duplex } from 'node:stream';
import type { ServerChannel } from 'ssh2';
import type { Link } from './peer-guard.ts';

/** How much is gathered into one write: eight SSH packets of 32 KiB. */
const BATCH = 256 * 1024;

/** One end of an SSH channel. Destroying it closes the channel. */
export class ChannelStream extends Duplex {
  readonly #channel: ServerChannel;
  readonly #link: Link;

  /** @param link - the connection that carries the channel */
  constructor(channel: ServerChannel, link: Link) {
    super({ readableHighWaterMark: BATCH, writableHighWaterMark: BATCH });
    this.#channel = channel;
    this.#link = link;
    channel.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) channel.pause();
    });
    channel.on('end', () => {
      this.push(null);
    });
    channel.on('error', (error: Error) => {
      this.destroy(error);
    });
    channel.on('close', () => {
      this.destroy();
    });
    link.socket.once('close', () => {
      this.destroy();
    });
  }

  override _read(): void {
    this.#channel.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#send([chunk], done);
  }

  override _writev(chunks: { chunk: Buffer; encoding: BufferEncoding }[], done: (error?: Error | null) => void): void {
    this.#send(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#channel.end();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#channel.end();
    this.#channel.close();
    done(error);
  }

  /** Writes in batches; each waits until the client's window and the socket have taken it, so that a slow client costs no memory. */
  #send(chunks: readonly Buffer[], done: (error?: Error | null) => void): void {
    let next = 0;
    const step = (): void => {
      if (this.destroyed) return;
      if (next === chunks.length) {
        done();
        return;
      }
      const batch: Buffer[] = [];
      for (let size = 0; next < chunks.length && size < BATCH; next++) {
        const chunk = chunks[next];
        if (chunk === undefined) continue;
        batch.push(chunk);
        size += chunk.length;
      }
      const [first] = batch;
      const { socket } = this.#link;
      // ssh2 writes each packet to the socket by itself; corked, they leave in one system call.
      socket.cork();
      this.#channel.write(batch.length === 1 && first !== undefined ? first : Buffer.concat(batch), () => {
        this.#link.whenOpen(() => {
          if (!socket.writableNeedDrain) step();
          else socket.once('drain', step);
        });
      });
      socket.uncork();
    };
    step();
  }
}
