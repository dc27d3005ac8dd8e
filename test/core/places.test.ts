/** The places of each client: never more than it may have, and given back. */
import { expect, test } from '@jest/globals';
import { countPlaces } from '../../src/core/places.ts';

test('a client gets as many as it may have, whatever others have', () => {
  const places = countPlaces();
  expect([places.take('a', 2), places.take('a', 2), places.take('a', 2), places.take('b', 1)]).toEqual([0, 1, 2, 0]);
  expect(places.total()).toBe(3);
  places.leave('a');
  expect(places.take('a', 2)).toBe(1);
  expect(places.take('a', 2)).toBe(2);
});

test('what was not taken cannot be given back', () => {
  const places = countPlaces();
  places.leave('a');
  expect([places.total(), places.take('a', 1), places.take('a', 1)]).toEqual([0, 0, 1]);
});
