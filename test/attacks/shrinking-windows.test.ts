/**
 * A session whose memory gets short takes its large windows back. Go's client reserves what a frame needs of a window before it writes the frame,
 * and may acknowledge a smaller window in between: that frame must not cost the upload.
 */
import { constants } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { collectFrames, END_HEADERS, FRAME, frame, PREFACE, requestHeaders, socketPair } from '../support/raw-http2.ts';
import { startStack } from '../support/stack.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const PACK = 20 * MIB;
/** As large as Go's client makes them. */
const FRAME_BYTES = 512 * KIB;

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await sleep(5);
}

test('a frame that was reserved from the large window and comes after the small one was acknowledged is taken', async () => {
  const stack = await startStack({ appsrv: { bandwidth: { upload: MIB } } }, undefined, {
    memory: { total: 40 * MIB, perClient: 20 * MIB },
  });
  const { client, server } = await socketPair();
  const session = await stack.serve('appsrv', server);
  const frames = collectFrames(client);
  client.write(PREFACE);
  let acknowledged = 0;
  /** The windows that the server has named so far; each is acknowledged at once. */
  const windows = (): readonly number[] => {
    const settings = frames.filter(({ type, flags }) => type === FRAME.settings && flags === 0);
    for (; acknowledged < settings.length; acknowledged++) client.write(frame(FRAME.settings, 1, 0));
    return settings.flatMap(({ payload }) =>
      Array.from({ length: payload.length / 6 }, (_, index) => payload.subarray(6 * index))
        .filter((entry) => entry.readUInt16BE(0) === constants.NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE)
        .map((entry) => entry.readUInt32BE(2)),
    );
  };
  const begin = (stream: number): void => {
    const path = `/data/${String(stream).padStart(64, '0')}`;
    const head = requestHeaders('POST', path, [['content-length', String(PACK)]]);
    client.write(frame(FRAME.headers, END_HEADERS, stream, head));
  };
  const resets = (stream: number): number =>
    frames.filter((one) => one.type === FRAME.reset && one.stream === stream).length;
  const granted = (stream: number): number =>
    frames
      .filter((one) => one.type === FRAME.window && one.stream === stream)
      .reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
  /** Until the server has answered this, and so has said all that it had to say before. */
  const answeredPing = async (): Promise<void> => {
    const pings = (): number => frames.filter(({ type, flags }) => type === FRAME.ping && flags === 1).length;
    const before = pings();
    client.write(frame(FRAME.ping, 0, 0, Buffer.alloc(8)));
    await until(() => pings() > before);
  };

  await until(() => windows().length === 1);
  begin(1);
  let sent = 0;
  while ((windows().at(-1) ?? 0) < MIB) {
    if (sent + 16 * KIB <= (windows().at(-1) ?? 0) + granted(1)) {
      client.write(frame(FRAME.data, 0, 1, Buffer.alloc(16 * KIB)));
      sent += 16 * KIB;
    } else await sleep(1);
  }
  await until(() => granted(1) >= sent - 512 * KIB);
  // More than there is memory for.
  let last = 1;
  while (resets(last) === 0) {
    last += 2;
    begin(last);
    await answeredPing();
  }
  // Whatever window there is by now is acknowledged; the frame was ready before.
  windows();
  client.write(frame(FRAME.data, 0, 1, Buffer.alloc(FRAME_BYTES)));
  sent += FRAME_BYTES;
  await until(() => resets(1) > 0 || granted(1) >= sent - 512 * KIB);
  await answeredPing();
  expect(resets(1)).toBe(0);

  // With nothing under way, the window is small again.
  for (let stream = 1; stream < last; stream += 2)
    client.write(frame(FRAME.reset, 0, stream, Buffer.of(0, 0, 0, constants.NGHTTP2_CANCEL)));
  await until(() => windows().at(-1) === 64 * KIB);
  client.destroy();
  await session.ended;
  await stack.close();
});
