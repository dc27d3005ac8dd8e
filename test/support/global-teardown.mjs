/** Ends what global-setup started, and waits until it is gone. */
export default async function tearDown() {
  const ender = globalThis.labRunEnder;
  if (ender === undefined) return;
  await new Promise((resolve) => {
    ender.once('exit', resolve);
    ender.ref();
    ender.stdin.end();
  });
}
