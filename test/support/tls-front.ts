/**
 * TLS in front of the S3 server. restic's own S3 backend signs uploads in chunks where there is no TLS, which this radosgw refuses
 * (403), and plainly where there is.
 */
import { readFileSync } from 'node:fs';
import { connect, type AddressInfo } from 'node:net';
import path from 'node:path';
import { createServer } from 'node:tls';
import { join } from './joined.ts';
import { run, tempDir } from './lab.ts';

/** A TLS listener that passes everything on. */
interface TlsFront {
  readonly endpoint: string;
  /** The certificate, for `restic --cacert`. */
  readonly certificate: string;
  close(): void;
}

/** Makes a certificate for 127.0.0.1, and its key. @returns their files */
export async function makeCertificate(): Promise<{ readonly key: string; readonly certificate: string }> {
  const directory = tempDir();
  const [key, certificate] = [path.join(directory, 'key.pem'), path.join(directory, 'cert.pem')];
  const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const made = await run('openssl', [
    ...['req', '-x509', ...newKey, '-days', '2', ...subject],
    ...['-keyout', key, '-out', certificate],
  ]);
  if (made.code !== 0) throw new Error(made.stderr);
  return { key, certificate };
}

/** Listens on a free port, with a certificate made for it. */
export async function startTlsFront(target: string): Promise<TlsFront> {
  const { key, certificate } = await makeCertificate();
  const { hostname, port } = new URL(target);
  const server = createServer({ key: readFileSync(key), cert: readFileSync(certificate) }, (socket) => {
    const inner = connect(Number(port), hostname);
    join(socket, inner);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    endpoint: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    certificate,
    close: () => {
      server.close();
    },
  };
}
