/** What the primary process and its workers say to each other, over Node's channel with structured clones. */
import type { GatewayConfig } from '../config/types.ts';
import type { ErrorCode } from '../core/errors.ts';
import type { Figures } from '../metrics/figures.ts';
import type { Service } from './service.ts';
import type { Heard, Said } from './siblings.ts';

/** To a worker. The first is `config`, and each later one is to be taken up. */
export type ToWorker =
  | { readonly kind: 'config'; readonly config: GatewayConfig }
  /** Of another worker. */
  | { readonly kind: 'sibling'; readonly heard: Heard }
  /** Asks for `figures`. */
  | { readonly kind: 'count' }
  /** Let nobody in any more, and end when the last session has ended. */
  | { readonly kind: 'drain' }
  /** End now. */
  | { readonly kind: 'stop' };

/** From a worker. */
export type FromWorker =
  /** It hears messages from now on: what was sent before may be lost. */
  | { readonly kind: 'hello' }
  /** It serves. */
  | ({ readonly kind: 'ready' } & Pick<Service, 'addresses' | 'hostKeys'>)
  /** To the other workers. */
  | { readonly kind: 'siblings'; readonly said: Said }
  /** It could not start, and ends. */
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly detail: string }
  /** What it has counted: when it is asked, and when it ends. */
  | { readonly kind: 'figures'; readonly figures: Figures };

/** A config that came through the channel, which gives every object a prototype: names are looked up in these, and find only themselves. */
export function receivedConfig(config: GatewayConfig): GatewayConfig {
  const bare = <T>(entries: Readonly<Record<string, T>>) =>
    Object.assign(Object.create(null) as Record<string, T>, entries);
  return { ...config, stores: bare(config.stores), clients: bare(config.clients) };
}
