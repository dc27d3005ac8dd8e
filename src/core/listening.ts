/** Why nothing can listen at an address of the config, and what to do. */

/** An address and a port in one word. */
export function written({ host, port }: { readonly host: string; readonly port: number }): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** @param key - of the config, such as `listen` @param error - of the system */
export function whyNotListening(
  error: Error & { readonly code?: string | undefined },
  key: string,
  place: { readonly host: string; readonly port: number },
): string {
  const where = `${key}: ${written(place)}`;
  switch (error.code) {
    case 'EADDRINUSE':
      return `${where}: the port is in use by another program; stop that one or choose another port`;
    case 'EACCES':
      return `${where}: this user may not listen on that port; choose one from 1024 up, or grant CAP_NET_BIND_SERVICE`;
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAFNOSUPPORT':
      return `${where}: this machine does not have that address`;
    case undefined:
    default:
      return `${where}: ${error.message}`;
  }
}
