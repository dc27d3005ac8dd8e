/** Packs up and down through open sessions, as many at a time as restic has under way. */
import type { Pack, Session } from './session.ts';

/** restic's own number of connections on this backend. */
export const STREAMS = 5;

/** Uploads all packs, each session taking the next when it has a stream free. @returns seconds */
export function upload(sessions: readonly Session[], packs: readonly Pack[]): Promise<number> {
  return share(sessions, packs, async (session, { name, body }) => {
    await session.request('POST', `/data/${name}`, [200], { body });
  });
}

/** Downloads all packs likewise. @returns seconds */
export function download(sessions: readonly Session[], packs: readonly Pack[]): Promise<number> {
  return share(sessions, packs, async (session, { name, size }) => {
    const headers = { range: `bytes=0-${size - 1}` };
    const { bytes } = await session.request('GET', `/data/${name}`, [200, 206], { headers });
    if (bytes !== size) throw new Error(`a pack of ${size} bytes came as ${bytes}`);
  });
}

/** Downloads one pack and looks whether it is what was uploaded. @throws Error when it is not */
export async function mustHold(session: Session, { name }: Pack): Promise<void> {
  const { sha256 } = await session.request('GET', `/data/${name}`, [200, 206], {
    headers: { range: 'bytes=0-' },
    hash: true,
  });
  if (sha256 !== name) throw new Error('what came back is not what was uploaded');
}

async function share(
  sessions: readonly Session[],
  packs: readonly Pack[],
  move: (session: Session, pack: Pack) => Promise<void>,
): Promise<number> {
  const started = performance.now();
  const left = [...packs];
  const stream = async (session: Session): Promise<void> => {
    for (let pack = left.pop(); pack !== undefined; pack = left.pop()) await move(session, pack);
  };
  await Promise.all(
    Array.from({ length: STREAMS }, () => sessions)
      .flat()
      .map(stream),
  );
  return (performance.now() - started) / 1000;
}
