/** Sends a message by SMTP. */
import { hostname } from 'node:os';
import { isIP } from 'node:net';
import { readCaFile } from '../config/certificates.ts';
import type { EmailChannel } from '../config/notify.ts';
import { readPassword } from '../config/secrets.ts';
import { messageOf as whatWentWrong } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import { within } from '../core/waiting.ts';
import { systemCertificates } from '../web/way.ts';
import { SendError } from './http.ts';
import { wordsOf, type Message } from './message.ts';

/** How long each step may take, in ms. */
const LIMIT_MS = 20_000;
/** All steps together, in ms: a server may answer each of them a byte at a time. */
const WHOLE_MS = 60_000;
const MOST_TOLD = 200;

/** @throws SendError */
export async function sendMail(channel: EmailChannel, message: Message): Promise<void> {
  const { server, login, to, from, caFile } = channel;
  const { host, port, tls } = server;
  const name = mailName();
  const { createTransport } = await import('nodemailer');
  const ca = tls === 'none' ? undefined : caFile === undefined ? systemCertificates() : [...readCaFile(caFile)];
  const transport = createTransport({
    ...{ host, port, name, secure: tls === 'implicit', requireTLS: tls === 'starttls', ignoreTLS: tls === 'none' },
    ...(login && { auth: { user: login.user, pass: readPassword(login.password) } }),
    tls: { minVersion: 'TLSv1.2', ...(ca && { ca }), ...(isIP(host) === 0 && { servername: host }) },
    ...{ connectionTimeout: LIMIT_MS, greetingTimeout: LIMIT_MS, socketTimeout: LIMIT_MS, dnsTimeout: LIMIT_MS },
    ...{ disableFileAccess: true, disableUrlAccess: true },
  });
  try {
    const sent = transport.sendMail({
      ...{ from, to: [...to], subject: `restic-gateway ${message.gateway}: ${message.title}` },
      text: `${wordsOf(message)}\n`,
      date: new Date(message.at),
      messageId: `<${message.id}@${name}>`,
      // RFC 3834, section 5: no automatic answers to it.
      headers: { 'Auto-Submitted': 'auto-generated' },
    });
    if ((await within(WHOLE_MS, sent)) === undefined)
      throw new Error(`the message was not taken in ${WHOLE_MS / 1000} s`);
  } catch (error) {
    const { responseCode, code } = error as { readonly responseCode?: number; readonly code?: string };
    // RFC 5321, section 4.2.1: 5yz is a permanent negative answer.
    const refused = code === 'EAUTH' || (responseCode !== undefined && responseCode >= 500);
    throw new SendError(
      `${host}:${port}: ${printable(whatWentWrong(error).replace(/\s+/g, ' '), MOST_TOLD)}`,
      refused,
      error,
    );
  } finally {
    transport.close();
  }
}

/** What this host calls itself to mail servers, which take no name but one of a host. */
function mailName(): string {
  const name = hostname();
  return /^[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(name) ? name : 'localhost';
}
