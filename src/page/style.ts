/** The style of the pages as it is sent, and what the pages may do besides showing it. */
import { createHash } from 'node:crypto';
import { Html } from './html.ts';
import css from './style.css';

/** The style element. */
export const STYLE = Html.ofOwn(`<style>\n${css}</style>`);

/** As it is sent: without the indents. */
export function compact(text: string): string {
  return text.replace(/\n\s+/g, '\n');
}

/**
 * What a page may do, for `Content-Security-Policy`: show itself and its own icon, and ask the gateway for another page by a form. No script, no frame, nothing from elsewhere.
 */
export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256')
    .update(/>([^]*)</.exec(compact(STYLE.toString()))?.[1] ?? '')
    .digest('base64')}'`,
  'img-src data:',
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
].join('; ');
