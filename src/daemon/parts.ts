/** The parts that the daemon is made of: started in the order of one list, and taken along in it to another config and to the end. */
import type { GatewayConfig } from '../config/types.ts';

/** A part that runs. */
export interface Part {
  /** Says whether it can take up another config, before any part does. @throws GatewayError why not; nothing has changed then */
  accept?(config: GatewayConfig): void;
  /**
   * Takes up a config that all parts have accepted.
   * @throws GatewayError why it cannot, for a part that only then finds out: nothing has changed then, and no part after it hears of it
   */
  reconfigure?(config: GatewayConfig): void | Promise<void>;
  /** Ends, and lets go of everything. */
  close(): Promise<void>;
}

/** Starts a part. */
export type Start = () => Part | Promise<Part>;

/**
 * Starts parts, each when the one before it has started; when one cannot, those that have are closed again.
 * @returns all of them as one, in that order
 */
export async function startParts(starts: readonly Start[]): Promise<Required<Omit<Part, 'accept'>>> {
  const parts: Part[] = [];
  const close = async (): Promise<void> => {
    for (const part of parts) await part.close();
  };
  try {
    for (const start of starts) parts.push(await start());
  } catch (error) {
    await close();
    throw error;
  }
  return {
    reconfigure: async (next) => {
      for (const part of parts) part.accept?.(next);
      for (const part of parts) await part.reconfigure?.(next);
    },
    close,
  };
}

/** Parts that end at the same time. */
export function together(...parts: readonly Part[]): Part {
  return {
    reconfigure: async (next) => {
      for (const part of parts) await part.reconfigure?.(next);
    },
    close: async () => {
      await Promise.all(parts.map((part) => part.close()));
    },
  };
}
