/** Whether this command line has an option, for what must know before or beside its command. */
export function saysOwn(...options: readonly string[]): boolean {
  const { argv } = process;
  const own = argv.slice(2, argv.includes('--') ? argv.indexOf('--') : undefined);
  return own.some((word) => options.includes(word));
}
