import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe } from 'vitest';
import { type Authority, type Certificate, createAuthority } from './certificates.ts';
import { canStartServers } from './context.ts';
import { findServerBinary } from './redis-provider.ts';
import { freePort, type RedisServer, startRedis } from './servers.ts';

/** A Redis server with a TLS port. Its plain port, `server.url`, is for the tests' own commands. */
export interface TlsRedis {
  readonly server: RedisServer;
  readonly port: number;
  /** `rediss://localhost:<port>`. */
  readonly url: string;
  /** The option `tls` of a client that the server accepts, with a client certificate. */
  readonly tls: { readonly ca: string } & Certificate;
  readonly authority: Authority;
  stop(): Promise<void>;
}

export interface TlsRedisOptions {
  /** Default: a certificate for `localhost` and 127.0.0.1. */
  readonly certificate?: Parameters<Authority['issue']>[0];
  /** Whether the server refuses clients without a certificate; default false. */
  readonly requiresClientCertificate?: boolean;
  readonly args?: readonly string[];
}

export async function startTlsRedis(options: TlsRedisOptions = {}): Promise<TlsRedis> {
  const { certificate, requiresClientCertificate = false, args = [] } = options;
  const authority = await createAuthority();
  const [own, client] = [await authority.issue(certificate), await authority.issue()];
  const directory = await mkdtemp(join(tmpdir(), 'redis-kit-test-tls-'));
  const contents = { 'ca-cert': authority.ca, cert: own.cert, key: own.key };
  const port = await freePort();
  const settings: string[] = ['--tls-port', String(port)];
  settings.push('--tls-auth-clients', requiresClientCertificate ? 'yes' : 'no');
  for (const [name, text] of Object.entries(contents)) {
    await writeFile(join(directory, name), text);
    settings.push(`--tls-${name}-file`, join(directory, name));
  }
  const server = await startRedis({ args: [...settings, ...args] });
  return {
    server,
    port,
    url: `rediss://localhost:${port}`,
    tls: { ca: authority.ca, ...client },
    authority,
    async stop() {
      await server.stop();
      await authority.remove();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** A `describe` for tests with TLS. Without `openssl` or a server with TLS it is skipped, with the reason in its name. */
export function describeWithTls(name: string, tests: () => void): void {
  const missing = missingForTls();
  const reason = missing === undefined ? '' : ` (left out: ${missing})`;
  describe.skipIf(missing !== undefined)(name + reason, tests);
}

function missingForTls(): string | undefined {
  const binary = findServerBinary();
  if (!canStartServers() || binary === undefined)
    return 'neither redis-server nor valkey-server is on the PATH';
  if (spawnSync('openssl', ['version']).status !== 0) return 'openssl is not on the PATH';
  // A server without any port exits at once. A server that was built without TLS does not know the option.
  const { stdout, stderr } = spawnSync(binary, ['--port', '0', '--tls-port', '0'], { encoding: 'utf8' });
  return `${stdout}${stderr}`.includes('Bad directive') ? `${binary} was built without TLS` : undefined;
}
