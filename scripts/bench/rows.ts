/** Makes the lines of the table from what was measured. */
import { valuesOf, type Sample, type Samples } from './alternate.ts';
import type { Aim, Row } from './measure.ts';
import type { SystemName } from './site.ts';
import { ratios } from './statistics.ts';

/** How the systems are called in the table. */
const LABELS: Readonly<Record<SystemName, string>> = {
  rclone: 'OpenSSH + rclone',
  ssh: 'SSH server',
  stdio: 'forced command under sshd',
};

/** What one measured name means. */
interface Quantity {
  /** As in the samples. */
  readonly name: string;
  readonly what: string;
  readonly aims?: Partial<Readonly<Record<SystemName, Aim>>>;
}

/** For each quantity and each way in of the gateway, its ratio to OpenSSH with rclone. */
export function rowsAgainstRclone<System extends SystemName>(
  samples: Samples<System | 'rclone'>,
  waysIn: readonly System[],
  quantities: readonly Quantity[],
): Row[] {
  return quantities.flatMap(({ name, what, aims = {} }) =>
    waysIn.map((wayIn): Row => {
      const aim = aims[wayIn];
      return {
        what,
        of: LABELS[wayIn],
        unit: 'ratio',
        values: ratios(valuesOf(samples[wayIn], name), valuesOf(samples.rclone, name)),
        ...(aim === undefined ? {} : { aim }),
      };
    }),
  );
}

/** A line for a figure of one system itself. `value` makes it from each round's sample. */
export function rowOfOne(
  what: string,
  system: SystemName,
  unit: Row['unit'],
  samples: readonly Sample[],
  value: (sample: Sample) => number,
  aim?: Aim,
): Row {
  return { what, of: LABELS[system], unit, values: samples.map(value), ...(aim === undefined ? {} : { aim }) };
}
