import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A certificate and its private key, as PEM. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** An authority that exists only for tests, and that no client trusts by itself. */
export interface Authority {
  /** The certificate of the authority, as PEM: the option `ca` of TLS clients. */
  readonly ca: string;
  /** Issues a certificate for these subject alternative names; default: `DNS:localhost` and `IP:127.0.0.1`. */
  issue(options?: { readonly names?: readonly string[]; readonly isExpired?: boolean }): Promise<Certificate>;
  /** Deletes the files of the authority. */
  remove(): Promise<void>;
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

const CONFIG = `
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:true
[ca]
default_ca = tests
[tests]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
policy = policy
unique_subject = no
[policy]
commonName = supplied
`;

/** Creates an authority with the command `openssl`. */
export async function createAuthority(): Promise<Authority> {
  const directory = await mkdtemp(join(tmpdir(), 'redis-kit-test-ca-'));
  const file = (name: string) => join(directory, name);
  const openssl = (...args: readonly string[]) => run('openssl', [...args], { cwd: directory });
  await Promise.all([
    writeFile(file('config'), CONFIG),
    writeFile(file('index'), ''),
    writeFile(file('serial'), '01'),
  ]);
  const own = ['-keyout', 'ca.key', '-out', 'ca.crt', '-days', '2', '-subj', '/CN=test authority'];
  await openssl('req', '-x509', '-config', 'config', '-extensions', 'authority', ...NEW_KEY, ...own);
  let issued = 0;
  const signer = ['ca', '-batch', '-notext', '-config', 'config', '-cert', 'ca.crt', '-keyfile', 'ca.key'];
  return {
    ca: await readFile(file('ca.crt'), 'utf8'),
    async issue({ names = ['DNS:localhost', 'IP:127.0.0.1'], isExpired = false } = {}) {
      const [key, request, cert, extensions] = ['key', 'csr', 'crt', 'ext'].map(
        (kind) => `${issued}.${kind}`,
      );
      issued++;
      const subject = ['-keyout', `${key}`, '-out', `${request}`, '-subj', '/CN=test server'];
      await openssl('req', '-new', '-config', 'config', ...NEW_KEY, ...subject);
      await writeFile(file(`${extensions}`), `subjectAltName = ${names.join(', ')}\n`);
      const until = isExpired ? '20210101000000Z' : '20991231235959Z';
      const dates = ['-startdate', '20200101000000Z', '-enddate', until];
      const files = ['-extfile', `${extensions}`, '-in', `${request}`, '-out', `${cert}`];
      await openssl(...signer, ...dates, ...files);
      return { cert: await readFile(file(`${cert}`), 'utf8'), key: await readFile(file(`${key}`), 'utf8') };
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}
