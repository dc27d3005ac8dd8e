/** The one place that chooses between the kinds of storage. Only the chosen one's code is loaded: a process may serve a single session. */
import { readSecret } from '../config/secrets.ts';
import type { StoreConfig } from '../config/types.ts';
import type { Storage } from '../ports/repository-store.ts';

/** @throws GatewayError `invalid-config` when the store's secret cannot be read */
export async function openStorage(config: StoreConfig): Promise<Storage> {
  switch (config.type) {
    case 'directory': {
      const { createDirectoryStorage } = await import('./directory-store.ts');
      return createDirectoryStorage(config);
    }
    case 's3': {
      const { createS3Storage } = await import('./s3-store.ts');
      const { credentials } = config;
      return createS3Storage(
        config,
        credentials && { accessKeyId: credentials.accessKeyId, secretAccessKey: readSecret(credentials.secret) },
      );
    }
  }
}
