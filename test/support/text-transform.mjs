/** A file as the text in it, as the bundler's `text` loader gives it. */
export default {
  process: (text) => ({ code: `export default ${JSON.stringify(text)};` }),
};
