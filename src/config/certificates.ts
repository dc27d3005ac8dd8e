/** Certificates of CAs in PEM, as files hold them. */
import { X509Certificate } from 'node:crypto';
import { unreadable } from './files.ts';
import { invalid } from './problems.ts';
import { readSmallFile } from './small-file.ts';
import { mustBeTrusted } from './trusted-files.ts';

/** All CAs of a system are some 250 KiB. */
const MOST_CERTIFICATE_BYTES = 4 * 1024 * 1024;

const BLOCK = /-----BEGIN (?:TRUSTED )?CERTIFICATE-----[^-]+-----END (?:TRUSTED )?CERTIFICATE-----/g;

/** The certificates in a file, each in PEM; those that Node cannot read are left out, and a file that cannot be read has none. */
export function certificatesOf(file: string): readonly string[] {
  try {
    return certificatesIn(readSmallFile(file, MOST_CERTIFICATE_BYTES).toString('latin1'));
  } catch {
    return [];
  }
}

function certificatesIn(text: string): readonly string[] {
  return (text.match(BLOCK) ?? []).filter((block) => {
    try {
      return new X509Certificate(block).raw.length > 0;
    } catch {
      return false;
    }
  });
}

/**
 * The certificates of a file that the config names.
 * @throws GatewayError `invalid-config` that says what is wrong with the file
 */
export function readCaFile(file: string): readonly string[] {
  // Whoever can write it can stand in for the storage.
  mustBeTrusted(file);
  let text;
  try {
    text = readSmallFile(file, MOST_CERTIFICATE_BYTES).toString('latin1');
  } catch (error) {
    throw unreadable(file, error);
  }
  const certificates = certificatesIn(text);
  if (certificates.length > 0) return certificates;
  throw invalid(
    /PRIVATE KEY/.test(text)
      ? `${file}: holds a private key instead of certificates; name the file of the CA's certificate`
      : `${file}: holds no certificate in PEM (-----BEGIN CERTIFICATE-----); convert one in DER with: openssl x509 -inform der -in CERTIFICATE -out ${file}`,
  );
}
