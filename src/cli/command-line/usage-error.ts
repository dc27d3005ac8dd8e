/** A command line that is not understood, or asks for what cannot be. */
import { GatewayError } from '../../core/errors.ts';

/** What is wrong with it, and how the command is written. */
export class UsageError extends GatewayError {
  /** `restic-gateway undo CLIENT [OPTIONS]`; undefined until someone knows the command. */
  readonly usage: string | undefined;

  /** @param detail - names the word or option that is missing, wrong or too many */
  constructor(detail: string, usage?: string) {
    super('usage', { detail });
    this.usage = usage;
  }
}
