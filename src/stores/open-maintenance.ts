/** The one place that chooses between the kinds of storage for the admin's maintenance. */
import { readSecret } from '../config/secrets.ts';
import type { S3StoreConfig, StoreConfig } from '../config/types.ts';
import type { CopyStore } from '../ports/copy-store.ts';
import type { RepositoryMaintenance } from '../ports/repository-maintenance.ts';

/** @throws GatewayError `invalid-config` when the store's secret cannot be read, `store-misconfigured` */
export async function openMaintenance(config: StoreConfig, prefix: string): Promise<RepositoryMaintenance> {
  switch (config.type) {
    case 'directory': {
      const { DirectoryMaintenance: DirectoryMaintenance } = await import('./directory-maintenance.ts');
      return new DirectoryMaintenance(config, prefix);
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
  const { S3Maintenance } = await import('./s3-maintenance.ts');
  const { credentials } = config;
  return new S3Maintenance(
    config,
    credentials && { accessKeyId: credentials.accessKeyId, secretAccessKey: readSecret(credentials.secret) },
    prefix,
  );
}
