/** A client's entry as YAML that people read and `readSimpleDocument` reads, wherever its values allow. */
import { isPrintable, printableJson } from '../core/printable.ts';
import type { YamlValue } from './document.ts';

const KEY = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/;
/** What may stand without quotes, in a line of its own and between brackets. */
const PLAIN = /^[A-Za-z0-9/._~$][ -~]*$/;
const FLOW_PLAIN = /^[A-Za-z0-9/._~](?:[A-Za-z0-9 /._~+=@$*!?()<>|%^;&-]|:(?=[A-Za-z0-9/.]))*$/;
const EMPTY = /^(?:~|null|Null|NULL)$/;
/** What may stand in quotes as it is. */
const SHOWN = /^[\x20-\x7e\u00a1-\u1fff\u2010-\u2027\u2030-\ud7ff]*$/;

/** A list with a longer item has a line for each. */
const MOST_IN_LINE = 40;

/**
 * The lines of an entry, each with its line break.
 * @param indent - how many spaces stand before the name
 * @param step - how many more before its keys
 */
export function clientText(name: string, entry: YamlValue, indent: number, step = 2): string {
  const lines: string[] = [];
  const put = (key: string, value: YamlValue, depth: number): void => {
    const head = `${' '.repeat(depth)}${KEY.test(key) ? key : quoted(key)}:`;
    if (value === null) lines.push(head);
    else if (typeof value === 'string') lines.push(`${head} ${scalar(value)}`);
    else if (Array.isArray(value) && value.some((item) => typeof item === 'string' && item.length > MOST_IN_LINE)) {
      lines.push(head);
      for (const item of value)
        lines.push(`${' '.repeat(depth + step)}- ${typeof item === 'string' ? scalar(item) : flowText(item)}`);
    } else if (Array.isArray(value) || (depth > indent && !isLong(key, value)))
      lines.push(`${head} ${flowText(value)}`);
    else if (Object.keys(value).length === 0) lines.push(`${head} {}`);
    else {
      lines.push(head);
      for (const [inner, one] of Object.entries(value)) put(inner, one, depth + step);
    }
  };
  put(name, entry, indent);
  return lines.map((line) => `${line}\n`).join('');
}

function isLong(key: string, section: { readonly [key: string]: YamlValue }): boolean {
  return key === 'retention' || Object.values(section).some((one) => one !== null && typeof one === 'object');
}

/** A value as it stands between brackets, in one line. */
export function flowText(value: YamlValue): string {
  if (value === null) return '~';
  if (typeof value === 'string') return FLOW_PLAIN.test(value) && isPlain(value) ? value : quoted(value);
  if (Array.isArray(value)) return `[${value.map(flowText).join(', ')}]`;
  const keys = Object.entries(value).map(([key, one]) => `${KEY.test(key) ? key : quoted(key)}: ${flowText(one)}`);
  return keys.length === 0 ? '{}' : `{ ${keys.join(', ')} }`;
}

function scalar(value: string): string {
  const bare = PLAIN.test(value) && !value.includes(': ') && !value.includes(' #') && !value.endsWith(':');
  return bare && isPlain(value) ? value : quoted(value);
}

function isPlain(value: string): boolean {
  return !EMPTY.test(value) && value.trim() === value;
}

function quoted(value: string): string {
  const isShown = SHOWN.test(value) && isPrintable(value);
  if (isShown && !/["\\]/.test(value)) return `"${value}"`;
  if (isShown && !value.includes("'")) return `'${value}'`;
  return printableJson(JSON.stringify(value));
}
