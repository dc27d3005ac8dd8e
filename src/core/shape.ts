/**
 * Shapes that values out of JSON are held to before anything is taken from them. A value has a shape or it does not: nothing is filled in,
 * left out or changed, and an object has no members but those that its shape names.
 */
import { isPrintable } from './printable.ts';

/** Whether a value is what is wanted. */
export type Shape<T> = (value: unknown) => value is T;

/** A number of things, or of bytes. */
export const count: Shape<number> = (value): value is number => Number.isSafeInteger(value) && Number(value) >= 0;
/** A number that may be below nothing. */
export const sum: Shape<number> = (value): value is number => Number.isSafeInteger(value);
export const flag: Shape<boolean> = (value): value is boolean => typeof value === 'boolean';

/** The farthest from 1970 that a `Date` can be, in ms. */
const FARTHEST_MS = 8.64e15;
/** A time in ms since 1970. */
export const moment: Shape<number> = (value): value is number =>
  Number.isSafeInteger(value) && Math.abs(Number(value)) <= FARTHEST_MS;

const ISO_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
/** A time as `toISOString` writes it, of a year of four digits. */
export const isoTime: Shape<string> = (value): value is string =>
  typeof value === 'string' && ISO_TIME.test(value) && !Number.isNaN(Date.parse(value));

/** Text of any kind. @param longest - in characters */
export function text(longest: number): Shape<string> {
  return (value): value is string => typeof value === 'string' && value.length <= longest;
}

/** Text that is fit for a line of a terminal. @param longest - in characters */
export function line(longest: number): Shape<string> {
  return (value): value is string => typeof value === 'string' && value.length <= longest && isPrintable(value);
}

/** @param pattern - anchored at both ends */
export function like(pattern: RegExp): Shape<string> {
  return (value): value is string => typeof value === 'string' && pattern.test(value);
}

/** One of some values. */
export function only<const T>(...values: readonly T[]): Shape<T> {
  return (value): value is T => values.some((one) => one === value);
}

export function either<A, B>(a: Shape<A>, b: Shape<B>): Shape<A | B> {
  return (value): value is A | B => a(value) || b(value);
}

export function listOf<T>(item: Shape<T>): Shape<T[]> {
  return (value): value is T[] => Array.isArray(value) && value.every(item);
}

export function pairOf<A, B>(a: Shape<A>, b: Shape<B>): Shape<[A, B]> {
  return (value): value is [A, B] => Array.isArray(value) && value.length === 2 && a(value[0]) && b(value[1]);
}

/** An object whose members are all alike, by names. */
export function tableOf<T>(name: Shape<string>, item: Shape<T>): Shape<Record<string, T>> {
  return (value): value is Record<string, T> =>
    isObject(value) && Object.keys(value).every((key) => key !== '__proto__' && name(key) && item(value[key]));
}

type Members<T> = { readonly [Name in keyof T]: Shape<T[Name]> };

/** An object of members that it must have and members that it may have. */
export function record<Needed extends object, Optional extends object = object>(
  needed: Members<Needed>,
  optional?: Members<Optional>,
): Shape<Needed & Partial<Optional>> {
  const members = new Map(Object.entries<Shape<unknown>>({ ...needed, ...optional }));
  const names = Object.keys(needed);
  return (value): value is Needed & Partial<Optional> =>
    isObject(value) &&
    names.every((name) => Object.hasOwn(value, name)) &&
    Object.keys(value).every((name) => members.get(name)?.(value[name]) === true);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
