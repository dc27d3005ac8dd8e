/**
 * How an HTTP server is reached beyond its address, the storage and whom the gateway notifies: which CAs may vouch for it, and by which
 * proxy.
 *
 * Environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, as curl, restic and rclone read them; `SSL_CERT_FILE` as OpenSSL
 * and Go do; `NODE_EXTRA_CA_CERTS` as Node.
 */
import http from 'node:http';
import https from 'node:https';
import tls from 'node:tls';
import { types } from 'node:util';
import { certificatesOf, readCaFile } from '../config/certificates.ts';
import { GatewayError } from '../core/errors.ts';

/** What an endpoint is reached by. */
export interface Way {
  /** Absolute path of a file of the only CAs to trust. */
  readonly caFile?: string;
  /** A URL, or `none`; undefined: by the environment. */
  readonly proxy?: string;
}

/** Where systems keep the CAs that they trust: Debian and Alpine, Red Hat, SUSE, BSD. */
const SYSTEM_FILES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/** The names that OpenSSL's verification gives what no known CA has signed. */
const UNKNOWN_ISSUER =
  /^(UNABLE_TO_GET_ISSUER_CERT(_LOCALLY)?|UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT)$/;

/** Whether a connection failed because the server's CA is not known. */
export function isOfUnknownIssuer(error: unknown): boolean {
  return (
    types.isNativeError(error) && 'code' in error && typeof error.code === 'string' && UNKNOWN_ISSUER.test(error.code)
  );
}

/**
 * The CAs that the system trusts, with Node's own; read only once they are needed, since they are hundreds.
 * @returns undefined where there is nothing but Node's own
 */
export function systemCertificates(): string[] | undefined {
  const { env } = process;
  const named = [env['SSL_CERT_FILE'], env['NODE_EXTRA_CA_CERTS']].filter((file) => file !== undefined && file !== '');
  const found = [...(named as string[]), ...SYSTEM_FILES].flatMap(certificatesOf);
  return found.length === 0 ? undefined : [...new Set([...tls.rootCertificates, ...found])];
}

/** By what requests go. */
export interface Route {
  readonly agent: http.Agent;
  /** The CAs to trust, for each request: agents of proxies do not hand on what they were made with. Without: those that Node trusts. */
  readonly ca?: string[];
  readonly checkServerIdentity?: typeof tls.checkServerIdentity;
  /** Whether uploads may ask first: the library for plain HTTP proxies sends a head that went out early a second time, as part of the body. */
  readonly mayAsk: boolean;
}

/**
 * Makes the agent of an endpoint.
 * @param url - of the endpoint
 * @param ca - the CAs to trust; undefined: those that Node trusts
 * @throws GatewayError `invalid-config`, `store-misconfigured`
 */
export async function openRoute(
  url: string,
  { caFile, proxy }: Way,
  options: http.AgentOptions,
  ca: readonly string[] | undefined,
): Promise<Route> {
  const secure = url.startsWith('https:');
  const trusted = caFile === undefined ? ca : readCaFile(caFile);
  const authorities = secure && trusted ? { ca: [...trusted] } : {};
  const by = await proxyFor(url, proxy);
  if (by === undefined)
    return { agent: secure ? new https.Agent(options) : new http.Agent(options), ...authorities, mayAsk: true };
  if (!URL.canParse(by) || !/^https?:$/.test(new URL(by).protocol))
    throw new GatewayError('store-misconfigured', {
      detail:
        'the environment names a proxy that is no http or https URL; correct HTTPS_PROXY, or set proxy in the config',
    });
  const agent = secure
    ? new (await import('https-proxy-agent')).HttpsProxyAgent(by, options)
    : new (await import('http-proxy-agent')).HttpProxyAgent(by, options);
  // Through a tunnel, the library verifies no address of its own: a certificate for an IP address would be held to be for "localhost".
  const { hostname } = new URL(url);
  const checkServerIdentity: Route['checkServerIdentity'] = (_name, certificate) =>
    tls.checkServerIdentity(hostname.replace(/^\[(.*)\]$/, '$1'), certificate);
  return { agent, ...authorities, ...(secure && { checkServerIdentity }), mayAsk: secure };
}

/** The proxy's URL, or undefined. */
async function proxyFor(url: string, proxy: string | undefined): Promise<string | undefined> {
  if (proxy !== undefined) return proxy === 'none' ? undefined : proxy;
  const { env } = process;
  const given = [env['HTTPS_PROXY'], env['HTTP_PROXY'], env['ALL_PROXY']];
  const inSmallLetters = ['https_proxy', 'http_proxy', 'all_proxy'].map((variable) => env[variable]);
  // Which of them counts, and what NO_PROXY (env['NO_PROXY']) says of it, the library knows.
  if ([...given, ...inSmallLetters].every((one) => one === undefined || one === '')) return undefined;
  const { getProxyForUrl } = await import('proxy-from-env');
  return getProxyForUrl(url) || undefined;
}
