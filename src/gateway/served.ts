/** A session of the gateway while it is open or opening, and what is to be given back at its end. */
import type { ClientConfig, StoreConfig } from '../config/types.ts';
import type { Principal } from '../core/principal.ts';
import type { AdminHold } from '../limits/admin-hold.ts';
import type { AuditSink } from '../ports/audit-sink.ts';
import type { Lease } from '../ports/memory.ts';
import type { Session } from '../ports/sessions.ts';
import type { SafeStorage } from '../safeguard/safe-storage.ts';

/** A session that is open or opening, and what it was opened with. */
export interface Served {
  /** As the newest config has it. */
  client: ClientConfig;
  readonly store: StoreConfig | undefined;
  readonly principal: Principal;
  /** Whether it came by a certificate of a CA of the config. */
  readonly byCertificate: boolean;
  readonly audit: AuditSink;
  readonly notify: (line: string) => void;
  /** What the session holds by itself; set once it is taken. */
  memory: Lease | undefined;
  /** Of an admin's that holds the repository; set once it may. */
  hold: AdminHold | undefined;
  /** Takes it out of the machine's live sessions; set once it is one of them. */
  leave: (() => void) | undefined;
  storage: Promise<SafeStorage> | undefined;
  /** Set once it is open. */
  session: Session | undefined;
  /** Set once it is being ended. */
  ending: boolean;
}
