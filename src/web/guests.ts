/**
 * The connections of an HTTP listener: how many there may be, and who goes when there are more.
 *
 * One that is idle goes first, of the address and network that holds most (see core/fair-pool.ts): so a scraper with its one connection
 * gets in, whatever others keep open. One whose request is being answered goes when there is no other, of who has most of those.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { createFairPool, networksOf } from '../core/fair-pool.ts';

interface Guest {
  readonly socket: Socket;
  readonly networks: readonly string[];
  readonly since: number;
}

/** Holds a server to so many connections from now on. It counts as answered what the server was given the whole of, or gave up. */
export function boundConnections(server: Server, most: number): void {
  const idle = createFairPool<Guest>();
  const busy = createFairPool<Guest>();
  const guests = new WeakMap<Socket, Guest>();

  server.on('connection', (socket) => {
    const guest = { socket, networks: networksOf(socket.remoteAddress ?? ''), since: performance.now() };
    guests.set(socket, guest);
    idle.add(guest);
    socket.once('close', () => {
      idle.remove(guest);
      busy.remove(guest);
    });
    if (idle.size + busy.size <= most) return;
    // The one that has just come has asked for nothing yet, and goes only where it is of those who hold most.
    const worst = idle.size > 1 ? idle.worst() : busy.worst();
    worst?.socket.destroy();
    if (worst === undefined) return;
    idle.remove(worst);
    busy.remove(worst);
  });
  server.on('request', (request, response) => {
    const guest = guests.get(request.socket);
    if (guest === undefined) return;
    idle.remove(guest);
    busy.add(guest);
    response.once('close', () => {
      busy.remove(guest);
      if (!guest.socket.destroyed) idle.add(guest);
    });
  });
}
