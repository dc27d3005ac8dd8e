/** What came of each thing that was tried. */

/** One line of the result. `detail` says what was seen, or why it was not tried. */
export interface Row {
  readonly check: string;
  readonly result: 'held' | 'does-not-hold' | 'not-tried';
  readonly detail: string;
}

/** A row by whether it held. @param seen - what the server did */
export function row(check: string, held: boolean, seen: string): Row {
  return { check, result: held ? 'held' : 'does-not-hold', detail: seen };
}

/** A row for what is not tried. */
export function notTried(check: string, why: string): Row {
  return { check, result: 'not-tried', detail: why };
}

/** An HTTP status as people read it. */
export function answered(status: number): string {
  return status === 0 ? 'no answer' : `answered ${status}`;
}
