/** What the web listener serves: routes, which know nothing of HTTP but what is asked and what is answered. */

/** A request that has passed the listener's checks. */
interface WebRequest {
  /** What the groups of the route's path have matched, percent-decoded. */
  readonly parts: readonly string[];
  readonly query: URLSearchParams;
}

/** A whole answer. */
export interface WebAnswer {
  readonly status: number;
  /** By lower-case name. They come before the listener's own: nothing is kept, framed, run or loaded unless one of these says so. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
}

/** One thing that is served, to GET and HEAD. */
export interface WebRoute {
  /** Anchored at both ends; matched against the path before it is decoded. */
  readonly path: RegExp;
  /** Whether it is for everybody who reaches the listener, token or not: it must reveal nothing but that it is there. */
  readonly open: boolean;
  /** What it throws is answered with 500 and logged. */
  answer(request: WebRequest): WebAnswer | Promise<WebAnswer>;
}
