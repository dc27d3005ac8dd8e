/** What is kept by key and made when it is first asked for. */
export function getOrMake<K, V>(kept: Map<K, V>, key: K, make: () => V): V {
  let found = kept.get(key);
  if (found === undefined) kept.set(key, (found = make()));
  return found;
}
