/** The one place that chooses between the kinds of storage for the admin's upkeep. */
import { readSecret } from '../config/secrets.ts';
import type { S3StoreConfig, StoreConfig } from '../config/types.ts';
import type { CopyStore } from '../ports/copy-store.ts';
import type { RepositoryUpkeep } from '../ports/repository-upkeep.ts';

/** @throws GatewayError `invalid-config` when the store's secret cannot be read, `store-misconfigured` */
export async function openUpkeep(config: StoreConfig, prefix: string): Promise<RepositoryUpkeep> {
  switch (config.type) {
    case 'directory': {
      const { DirectoryUpkeep } = await import('./directory-upkeep.ts');
      return new DirectoryUpkeep(config, prefix);
    }
    case 's3':
      return openS3(config, prefix);
  }
}

/** @throws as `openUpkeep` */
export function openCopyStore(config: S3StoreConfig, prefix: string): Promise<CopyStore> {
  return openS3(config, prefix);
}

async function openS3(config: S3StoreConfig, prefix: string) {
  const { S3Upkeep } = await import('./s3-upkeep.ts');
  const { credentials } = config;
  return new S3Upkeep(
    config,
    credentials && { accessKeyId: credentials.accessKeyId, secretAccessKey: readSecret(credentials.secret) },
    prefix,
  );
}
