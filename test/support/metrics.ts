/** Prometheus' text format as a scraper reads it. */

/** One line of it. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const LINE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/y;

/** @throws Error for a line that is none, one that comes twice, and one whose metric was not declared */
export function parseMetrics(text: string): readonly Sample[] {
  const declared = new Set<string>();
  const seen = new Set<string>();
  return text.split('\n').flatMap((line) => {
    const type = /^# TYPE (\S+) (?:counter|gauge|histogram|summary)$/.exec(line)?.[1];
    if (type !== undefined) declared.add(type);
    if (line === '' || line.startsWith('#')) return [];
    const [, name = '', inner = '', value = ''] = LINE.exec(line) ?? [];
    const labels: Record<string, string> = {};
    LABEL.lastIndex = 0;
    while (LABEL.lastIndex < inner.length) {
      const [, label = '', content = ''] = LABEL.exec(inner) ?? [];
      if (label === '') throw new Error(`not a sample: ${line}`);
      labels[label] = content;
    }
    const family = name.replace(/_(?:bucket|sum|count)$/, '');
    if (!declared.has(name) && !declared.has(family)) throw new Error(`of no metric: ${line}`);
    const id = line.slice(0, line.lastIndexOf(' '));
    if (seen.has(id)) throw new Error(`comes twice: ${line}`);
    seen.add(id);
    return { name, labels, value: Number(value) };
  });
}
