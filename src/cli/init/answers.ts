/** What the first config is to say: from the command line, and from the person at the terminal for what it leaves open. */
import { isAbsolute } from 'node:path';
import { didYouMean } from '../../config/problems.ts';
import { GatewayError } from '../../core/errors.ts';
import type { Terminal } from './ask.ts';

/** What the command line says. */
export interface InitOptions {
  readonly s3: string | undefined;
  readonly dir: string | undefined;
  readonly endpoint: string | undefined;
  readonly region: string | undefined;
  readonly accessKeyId: string | undefined;
  readonly secretAccessKeyFile: string | undefined;
  readonly listen: string | undefined;
}

/** What was decided. */
export interface Answers {
  readonly listen: string;
  readonly store: { readonly type: 'directory'; readonly path: string } | S3Answers;
}

/** A bucket and the way to it. */
interface S3Answers {
  readonly type: 's3';
  readonly bucket: string;
  readonly region: string | undefined;
  readonly endpoint: string | undefined;
  /** The secret itself where it was typed, or the file that has it. */
  readonly credentials:
    | { readonly accessKeyId: string; readonly secret: { readonly file: string } | { readonly typed: string } }
    | undefined;
}

/** That port of all addresses. */
const DEFAULT_LISTEN = '2222';
const DEFAULT_DIRECTORY = '/var/lib/restic-gateway';

/** @param terminal - undefined when nobody can be asked. @throws GatewayError `usage` when something is missing or contradicts itself */
export async function collectAnswers(options: InitOptions, terminal: Terminal | undefined): Promise<Answers> {
  const { s3, dir, endpoint, region, accessKeyId, secretAccessKeyFile, listen } = options;
  if (s3 !== undefined && dir !== undefined) throw usage('give one store: --s3 BUCKET or --dir PATH');
  const forS3 = Object.entries({
    endpoint,
    region,
    'access-key-id': accessKeyId,
    'secret-access-key-file': secretAccessKeyFile,
  });
  const [stray] = forS3.filter(([, value]) => value !== undefined);
  if (stray !== undefined && s3 === undefined) throw usage(`--${stray[0]} belongs to a bucket: give --s3 BUCKET too`);

  if (s3 !== undefined) {
    const store = await s3Answers(s3, options, terminal);
    return { store, listen: listen ?? DEFAULT_LISTEN };
  }
  if (dir !== undefined) return { store: { type: 'directory', path: dir }, listen: listen ?? DEFAULT_LISTEN };
  if (terminal === undefined) throw usage('say where backups are to be stored: --s3 BUCKET or --dir PATH');

  const kind = await askUntil(
    terminal,
    'Store backups in an S3 bucket (s3) or a directory of this machine (dir)?',
    's3',
    (answer) =>
      ['s3', 'dir'].includes(answer) ? undefined : `the answer is s3 or dir${didYouMean(answer, ['s3', 'dir'])}`,
  );
  const store =
    kind === 'dir'
      ? { type: 'directory' as const, path: await askUntil(terminal, 'Directory', DEFAULT_DIRECTORY, whyNoPath) }
      : await s3Answers(await terminal.ask('Bucket'), options, terminal, true);
  return { store, listen: listen ?? (await askUntil(terminal, 'Listen on', DEFAULT_LISTEN, whyNoAddress)) };
}

async function s3Answers(
  bucket: string,
  { endpoint, region, accessKeyId, secretAccessKeyFile }: InitOptions,
  terminal: Terminal | undefined,
  interview = false,
): Promise<S3Answers> {
  let where = { endpoint, region };
  let id = accessKeyId;
  if (interview && terminal !== undefined) {
    const url = await askUntil(terminal, 'Endpoint, an https URL; or aws', 'aws', whyNoEndpoint);
    where =
      url === 'aws'
        ? { endpoint: undefined, region: await terminal.ask('Region') }
        : { endpoint: url, region: undefined };
    const answer = await terminal.ask("Access key id; or machine, for this machine's own credentials", 'machine');
    id = answer === 'machine' ? undefined : answer;
  }
  if (where.endpoint === undefined && where.region === undefined)
    throw usage('say where the bucket is: --region REGION for AWS, --endpoint URL for others');
  if (id === undefined) {
    if (secretAccessKeyFile !== undefined) throw usage('--secret-access-key-file needs --access-key-id beside it');
    return { type: 's3', bucket, ...where, credentials: undefined };
  }
  if (secretAccessKeyFile !== undefined)
    return { type: 's3', bucket, ...where, credentials: { accessKeyId: id, secret: { file: secretAccessKeyFile } } };
  if (terminal === undefined)
    throw usage(
      '--access-key-id needs --secret-access-key-file FILE beside it; a secret is no argument, since others see those',
    );
  const typed = await terminal.askSecret('Secret access key (not shown)');
  return { type: 's3', bucket, ...where, credentials: { accessKeyId: id, secret: { typed } } };
}

/** Asks again as long as the answer cannot be right. @param whyNot - what is wrong with an answer, undefined for nothing */
async function askUntil(
  terminal: Terminal,
  question: string,
  fallback: string,
  whyNot: (answer: string) => string | undefined,
): Promise<string> {
  for (;;) {
    const answer = await terminal.ask(question, fallback);
    const wrong = whyNot(answer);
    if (wrong === undefined) return answer;
    process.stderr.write(`  ${wrong}\n`);
  }
}

function whyNoPath(answer: string): string | undefined {
  return isAbsolute(answer) ? undefined : 'write the whole path, from / on';
}

function whyNoAddress(answer: string): string | undefined {
  const port = Number(/(?:^|:)(\d{1,5})$/.exec(answer)?.[1] ?? NaN);
  return port <= 65_535 && !/\s/.test(answer)
    ? undefined
    : `write HOST:PORT, or a port of all addresses, such as ${DEFAULT_LISTEN}`;
}

function whyNoEndpoint(answer: string): string | undefined {
  return answer === 'aws' || (/^https?:\/\//.test(answer) && URL.canParse(answer))
    ? undefined
    : 'write a URL such as https://s3.example.com, or aws';
}

function usage(detail: string): GatewayError {
  return new GatewayError('usage', { detail });
}
