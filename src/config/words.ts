/**
 * The words that the schema is written in: a key with its type, default and description, and the types themselves. What the reference in
 * the docs and the JSON Schema for editors say of a key comes from here as well, so that neither can say anything else.
 */
import * as v from 'valibot';
import { GatewayError } from '../core/errors.ts';
import { didYouMean, hasControls } from './problems.ts';

/** What the reference says of a key. */
export interface KeyInfo {
  /** Half a sentence: what it is for. Markdown. */
  readonly about: string;
  /** What holds where it is not written, if that is not a value that could be. Markdown. */
  readonly unless?: string;
  /** Whether a change of it needs a restart of `serve`; without, a reload does. */
  readonly restart?: true;
}

/** What is said of a key without a value. */
export const EMPTY = 'is empty; give it a value or remove the line';

/** Any text, the empty one included. */
export const anyText = v.string((issue) => (issue.input === null ? EMPTY : 'must be a single value'));
/** A text that is not empty. */
export const filledText = v.pipe(anyText, v.nonEmpty(EMPTY));
/** A filled text on one line. */
export const lineText = v.pipe(
  filledText,
  v.check((text) => !hasControls(text), 'holds a line break or a control character'),
);

/**
 * A text as `parse` reads it; what `parse` throws becomes an issue.
 * @param form - what may be written, for the reference
 */
export function parsed<T>(form: string, parse: (text: string) => T, base: v.GenericSchema<string> = lineText) {
  return v.pipe(
    base,
    v.metadata({ form }),
    v.rawTransform<string, T>(({ dataset, addIssue, NEVER }) => {
      try {
        return parse(dataset.value);
      } catch (error) {
        if (!(error instanceof GatewayError)) throw error;
        addIssue({ message: error.message });
        return NEVER;
      }
    }),
  );
}

/** One of some words. */
export function oneOf<const T extends readonly string[]>(words: T) {
  const known = words.map((word) => `"${word}"`).join(' or ');
  return v.picklist(words, (issue) => {
    if (issue.input === null) return EMPTY;
    return `must be ${known}${typeof issue.input === 'string' ? didYouMean(issue.input, words) : ''}`;
  });
}

/** A list that holds nothing twice. @param identity - what makes two items the same */
export function listOf<T>(item: v.GenericSchema<unknown, T>, identity: (item: T) => unknown = (same) => same) {
  return v.pipe(
    v.array(item, (issue) => (issue.input === null ? EMPTY : 'must be a list: [one, another]')),
    v.rawCheck(({ dataset, addIssue }) => {
      const items: unknown = dataset.value;
      if (!Array.isArray(items)) return;
      const wrong = new Set(dataset.issues?.map((issue) => issue.path?.[0]?.key));
      const seen = new Set<unknown>();
      for (const [key, value] of items.entries()) {
        if (wrong.has(key)) continue;
        const same = identity(value as T);
        if (seen.has(same))
          addIssue({
            message: 'stands in this list twice',
            path: [{ type: 'array', origin: 'value', input: items, key, value }],
          });
        seen.add(same);
      }
    }),
  );
}

/** One item, or a list of some that holds nothing twice. @param identity - as `listOf` */
export function oneOrList<T>(item: v.GenericSchema<unknown, T>, identity: (item: T) => unknown, form: string) {
  const one = v.pipe(
    item,
    v.transform((only): T[] => [only]),
  );
  const many = v.pipe(listOf(item, identity), v.minLength(1, EMPTY));
  return v.pipe(
    v.lazy((input): v.GenericSchema<unknown, T[]> => (Array.isArray(input) ? many : one)),
    v.metadata({ form, orList: true }),
  );
}

/** Whether a value is a section. */
export function isSection(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Exactly these keys, for what is a section already.
 * @param refused - keys that one may look for here, and why there are none
 */
export function keysOf<const T extends v.ObjectEntries>(entries: T, refused: Readonly<Record<string, string>> = {}) {
  const known = Object.keys(entries);
  return v.pipe(
    v.looseObject(entries, 'is missing'),
    v.rawCheck(({ dataset, addIssue }) => {
      const input = dataset.value as Record<string, unknown>;
      for (const key of Object.keys(input))
        if (!Object.hasOwn(entries, key))
          addIssue({
            message: Object.hasOwn(refused, key) ? (refused[key] ?? '') : `unknown key${didYouMean(key, known)}`,
            path: [{ type: 'object', origin: 'key', input, key, value: input[key] }],
          });
    }),
  );
}

/** A section, of whatever keys. */
export function anySection(known: string) {
  return v.custom<Record<string, unknown>>(isSection, (issue) =>
    issue.input === null ? EMPTY : `must be a section with ${known}`,
  );
}

/** Of a section with more keys than this, an error names the first half as many: nobody reads all of them. */
const MOST_NAMED = 8;

/** A section with exactly these keys. @param refused - as `keysOf` */
export function section<const T extends v.ObjectEntries>(entries: T, refused?: Readonly<Record<string, string>>) {
  const names = Object.keys(entries);
  const known = names.length > MOST_NAMED ? [...names.slice(0, MOST_NAMED / 2), '…'] : names;
  const schema = v.pipe(anySection(known.join(', ')), keysOf(entries, refused));
  // The loose object lets others through only to have them reported.
  return schema as unknown as v.GenericSchema<unknown, v.InferOutput<v.ObjectSchema<T, undefined>>>;
}

/** A key that must be there. */
export function needed<const T extends v.GenericSchema>(type: T, info: KeyInfo) {
  return v.pipe(type, v.metadata({ ...info }));
}

/** A key that may be left out, and is then not there. */
export function optional<const T extends v.GenericSchema>(type: T, info: KeyInfo) {
  return v.exactOptional(v.pipe(type, v.metadata({ ...info })));
}

/** A key that has a value even where it is left out. @param value - as it would be written */
export function withDefault<const T extends v.GenericSchema>(type: T, value: v.InferInput<T>, info: KeyInfo) {
  return v.optional(v.pipe(type, v.metadata({ ...info })), value as never);
}
