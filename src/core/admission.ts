/**
 * Whether a client that has authenticated is let in now: one pure function over what the config says and what is the case.
 */

/** What the config says of a client's sessions. */
export interface AdmissionRule {
  readonly disabled: boolean;
  /** The other gateway that has it disabled. */
  readonly disabledBy?: string;
  /** The last moment at which the key works. */
  readonly expires?: Date;
  /** Sessions at once. */
  readonly maxSessions: number;
}

/** What is the case at this moment. */
export interface AdmissionFacts {
  readonly now: Date;
  /** The client's sessions that are open, this one not counted. */
  readonly open: number;
  /** Whether the peer's address is one that the config allows. */
  readonly addressAllowed: boolean;
}

/** Why a session is refused: a stable word for the audit and one plain line for the client. */
interface Refusal {
  readonly reason: 'disabled' | 'expired' | 'address' | 'max-sessions';
  readonly line: string;
}

/** The reason to refuse, or undefined to let in. */
export function refuseAdmission(client: string, rule: AdmissionRule, facts: AdmissionFacts): Refusal | undefined {
  if (rule.disabled) {
    const { disabledBy } = rule;
    if (disabledBy === undefined)
      return { reason: 'disabled', line: `client ${client} is disabled; ask the gateway's admin.` };
    return {
      reason: 'disabled',
      line: `client ${client} is disabled by gateway ${disabledBy}; ask the gateway's admin.`,
    };
  }
  if (rule.expires !== undefined && facts.now > rule.expires)
    return {
      reason: 'expired',
      line: `the key of client ${client} expired on ${rule.expires.toISOString().slice(0, 10)}; ask the gateway's admin.`,
    };
  if (!facts.addressAllowed)
    return { reason: 'address', line: `client ${client} may not connect from this address; ask the gateway's admin.` };
  if (facts.open >= rule.maxSessions)
    return {
      reason: 'max-sessions',
      line: `client ${client} has ${facts.open} sessions open already, the most it may; wait for one to end.`,
    };
  return undefined;
}
