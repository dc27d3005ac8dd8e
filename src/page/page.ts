/** The pages for people: `/`, `/clients/NAME` and `/help`, from what the monitor knows. They only read. */
import { within } from '../core/waiting.ts';
import type { GatewayConfig } from '../config/types.ts';
import { asGatewayError } from '../core/errors.ts';
import type { ClientStatus, ClientState } from '../monitor/client-status.ts';
import type { WebAnswer, WebRoute } from '../ports/web.ts';
import { renderClient } from './client.ts';
import { renderHelp } from './help.ts';
import { html } from './html.ts';
import { document, type About, type Frame } from './layout.ts';
import { renderOverview } from './overview.ts';
import { CONTENT_SECURITY_POLICY } from './style.ts';

/** For so long an overview is given again, in ms: many readers cost no more than one. */
const KEPT_MS = 1000;
/** How long a reader waits for the audit to be read, which after a long absence may take minutes, in ms. */
const PATIENCE_MS = 5000;
const RETRY_SECONDS = 10;
/** The same where it is known to take that long. */
const SHORT_PATIENCE_MS = 300;

/**
 * What serves the pages.
 * @param options.monitor - the pages' only source beside the config
 * @param options.config - the config as it is now
 * @param options.problems - what is wrong with the gateway itself and has to be looked at, a sentence each
 * @param options.about - which gateway this is
 */
export function pageRoutes(options: {
  readonly monitor: {
    statuses(): Promise<readonly ClientStatus[]>;
    status(client: string): Promise<ClientStatus | undefined>;
    /** How much of a long audit has been read, from 0 to 1; undefined while none is being read. */
    reading(): number | undefined;
  };
  readonly config: () => GatewayConfig;
  readonly problems: () => Promise<readonly string[]>;
  readonly about: About;
}): readonly WebRoute[] {
  const { monitor, config, problems, about } = options;
  const statuses = keptShortly(() => monitor.statuses());
  const frameOf = (query: URLSearchParams): Frame => ({ about, now: new Date(), query });
  // The same answer for all who look at the same: it is made, and compressed, once.
  const overview = keptShortly(async () =>
    page(200, await renderOverview(await statuses(), await problems(), frameOf(new URLSearchParams()))),
  );

  const answer = async (
    root: './' | '../',
    query: URLSearchParams,
    render: (frame: Frame) => Promise<WebAnswer>,
  ): Promise<WebAnswer> => {
    const frame = frameOf(query);
    try {
      const rendering = render(frame);
      let answered = await within(SHORT_PATIENCE_MS, rendering);
      if (answered === undefined && monitor.reading() === undefined)
        answered = await within(PATIENCE_MS - SHORT_PATIENCE_MS, rendering);
      // Nobody waits for it any more.
      rendering.catch(() => undefined);
      return answered ?? busy(root, frame, monitor.reading());
    } catch (error) {
      const { message } = asGatewayError(error);
      return note(503, root, frame, 'attention', 'The status of the backups is not known now', message);
    }
  };

  return [
    {
      path: /^\/$/,
      open: false,
      answer: ({ query }) =>
        answer('./', query, async (frame) =>
          query.size === 0 ? overview() : page(200, await renderOverview(await statuses(), await problems(), frame)),
        ),
    },
    {
      path: /^\/clients\/([^/]+)$/,
      open: false,
      answer: ({ parts: [name = ''], query }) =>
        answer('../', query, async (frame) => {
          const known = config().clients[name];
          const status = known && (await monitor.status(name));
          if (known === undefined || status === undefined)
            return note(404, '../', frame, 'disabled', 'There is no such client', `The config has no client ${name}.`);
          return page(200, renderClient(status, known, frame, config().trustedUserCAKeys));
        }),
    },
    { path: /^\/help$/, open: false, answer: ({ query }) => page(200, renderHelp(frameOf(query))) },
  ];
}

function page(status: 200 | 404 | 503, body: string, headers: Readonly<Record<string, string>> = {}): WebAnswer {
  return {
    status,
    headers: {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': CONTENT_SECURITY_POLICY,
      ...headers,
    },
    body,
  };
}

function note(
  status: 404 | 503,
  root: './' | '../',
  frame: Frame,
  state: ClientState,
  title: string,
  text: string,
  retry?: number,
): WebAnswer {
  const main = html`<section>
    <h1>${title}</h1>
    <p>${text}</p>
  </section>`;
  return page(
    status,
    document({
      ...{ frame, title, state, root, refreshes: false, main },
      ...(retry !== undefined && { retry }),
    }),
    retry === undefined ? {} : { 'retry-after': `${retry}` },
  );
}

/** @param share - how much has been read, from 0 to 1, where that is known */
function busy(root: './' | '../', frame: Frame, share: number | undefined): WebAnswer {
  const text = `A long one takes its time once, and leaves the sessions theirs. This page looks again every ${RETRY_SECONDS} seconds.`;
  const far = share === undefined ? '' : `: ${Math.floor(share * 100)} %`;
  return note(503, root, frame, 'never', `The audit is being read${far}`, text, RETRY_SECONDS);
}

/** The same promise for all who ask while it is under way and shortly after. */
function keptShortly<T>(make: () => Promise<T>): () => Promise<T> {
  let kept: Promise<T> | undefined;
  return () => {
    if (kept !== undefined) return kept;
    const made = make();
    kept = made;
    const remove = (): void => {
      kept = undefined;
    };
    made.then(() => {
      setTimeout(remove, KEPT_MS).unref();
    }, remove);
    return made;
  };
}
