/** The YAML library, loaded when a config first needs it: most are read without, by a process that starts once a connection. */
import { createRequire } from 'node:module';
import type * as Yaml from 'yaml';

const require = createRequire(import.meta.url);

/** The library `yaml`; the same at every call. */
export function yamlLibrary(): typeof Yaml {
  return require('yaml') as typeof Yaml;
}
