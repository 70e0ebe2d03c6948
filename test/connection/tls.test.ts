import { once } from 'node:events';
import { connect as connectPlain, type LookupFunction } from 'node:net';
import { createServer } from 'node:tls';
import { inspect } from 'node:util';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import type { KitOptions, RedisKit } from '../../src/index.ts';
import { type Authority, createAuthority } from '../support/certificates.ts';
import { clusterNodes, redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { describeWithTls, startTlsRedis, type TlsRedis } from '../support/tls-server.ts';
import { until } from '../support/until.ts';

/** Acquires a lock that another caller holds, which takes a command and the subscriber. */
async function expectToWork(kit: RedisKit): Promise<void> {
  const lock = await kit.locks.acquire('a');
  const next = kit.locks.acquire('a', { wait: '10s' });
  await until('it waits', async () => (await kit.locks.inspect('a')).waiters === 1);
  await lock.release();
  await (await next).release();
}

/** The reason why the kit of these options does not connect. */
async function refusal(options: KitOptions): Promise<string> {
  const kit = kitForTest(options);
  const downs = eventsOf(kit, 'connection:down');
  await until('the attempt fails', () => downs.length > 0);
  const message = downs[0]?.error.message ?? '';
  expect(message).not.toMatch(/\n|PRIVATE KEY|\.c:/);
  return message;
}

describeWithTls('a kit on a Redis server with TLS', () => {
  let redis: TlsRedis;
  let strict: TlsRedis;
  beforeAll(async () => {
    redis = await startTlsRedis();
    strict = await startTlsRedis({ requiresClientCertificate: true });
    await withPlainClient(redis.server.url, (client) =>
      client.sendCommand(['ACL', 'SETUSER', 'ann', 'on', '>p@ss', '~*', '&*', '+@all']),
    );
  });
  afterAll(async () => {
    await redis.stop();
    await strict.stop();
  });

  it('a rediss: URL with a private authority and an ACL user connects', async () => {
    const url = redis.url.replace('//', '//ann:p%40ss@');
    await expectToWork(kitForTest({ url, tls: { ca: redis.tls.ca } }));
  });

  it('host and port with tls connect to the TLS port', async () => {
    const { ca } = redis.tls;
    await expectToWork(kitForTest({ host: '127.0.0.1', port: redis.port, tls: { ca } }));
    await expectToWork(kitForTest({ port: redis.port, tls: { rejectUnauthorized: false } }));
  });

  it('a client certificate is shown to a server that requires one', async () => {
    await expectToWork(kitForTest({ url: strict.url, tls: strict.tls }));
    const { ca, cert, key } = strict.tls;
    const buffers = { ca: Buffer.from(ca), cert: Buffer.from(cert), key: Buffer.from(key) };
    await expectToWork(kitForTest({ url: strict.url, tls: buffers }));
  });

  it('a server that requires a client certificate, and gets none, is reported with the remedy', async () => {
    expect(await refusal({ url: strict.url, tls: { ca: strict.tls.ca } })).toMatch(
      /cannot be reached: .*; .*`tls\.cert` and `tls\.key`\)?$/,
    );
  });

  it('a certificate of an unknown authority is reported with the remedy', async () => {
    const other = await createAuthority();
    onTestFinished(() => other.remove());
    const remedy = /certificate.*; Node\.js does not trust the authority .*set `tls\.ca`/;
    expect(await refusal({ url: redis.url })).toMatch(remedy);
    expect(await refusal({ url: redis.url, tls: { ca: other.ca } })).toMatch(remedy);
    expect(await refusal({ cluster: { nodes: [redis.url], tls: { ca: other.ca } } })).toMatch(remedy);
  });

  it('a certificate for another name is reported with the remedy, which works', async () => {
    const other = await startTlsRedis({ certificate: { names: ['DNS:redis.test'] } });
    onTestFinished(() => other.stop());
    const { ca } = other.tls;
    expect(await refusal({ url: other.url, tls: { ca } })).toMatch(
      /does not match certificate's altnames.*; connect by a name .*`tls\.servername`/,
    );
    await expectToWork(kitForTest({ url: other.url, tls: { ca, servername: 'redis.test' } }));
  });

  it('an expired certificate is reported', async () => {
    const expired = await startTlsRedis({ certificate: { isExpired: true } });
    onTestFinished(() => expired.stop());
    expect(await refusal({ url: expired.url, tls: { ca: expired.tls.ca } })).toMatch(
      /cannot be reached: certificate has expired$/,
    );
  });

  it('plain text to a TLS port is reported with the remedy', async () => {
    const remedy = /cannot be reached: .*; the server closed the connection; .* TLS \(rediss:/;
    expect(await refusal({ url: redis.url.replace('rediss:', 'redis:') })).toMatch(remedy);
    expect(await refusal({ cluster: { nodes: [`localhost:${redis.port}`] } })).toMatch(remedy);
  });

  it('a cluster with TLS is connected, although its only node does not know its own host', async () => {
    const args = ['--cluster-enabled', 'yes', '--tls-cluster', 'yes'];
    const node = await startTlsRedis({ args });
    onTestFinished(() => node.stop());
    await withPlainClient(node.server.url, (client) =>
      client.sendCommand(['CLUSTER', 'ADDSLOTS', ...Array.from({ length: 16_384 }, (_, slot) => `${slot}`)]),
    );
    const { ca } = node.tls;
    const kit = kitForTest({ cluster: { nodes: [node.url], tls: { ca } } });
    await kit.ready();
    await expectToWork(kit);
  });

  it('neither a kit nor its settings show the key of a client certificate', async () => {
    const [line = ''] = strict.tls.key.split('\n').slice(1);
    const nodes = [strict.url];
    for (const options of [
      { url: strict.url, tls: strict.tls },
      { cluster: { nodes, tls: { ...strict.tls, passphrase: 'hush' } } },
    ]) {
      const text = inspect(kitForTest(options), { depth: Number.POSITIVE_INFINITY, showHidden: true });
      expect(text).not.toContain(line);
      expect(text).not.toContain('hush');
    }
  });
});

/** A gateway as clouds have them: it ends TLS, and routes by the server name that the client sends. */
async function startGateway(authority: Authority, routes: ReadonlyMap<string, number>) {
  const names: (string | false | null)[] = [];
  const certificate = await authority.issue({ names: ['DNS:*.redis.test', 'DNS:localhost', 'IP:127.0.0.1'] });
  const gateway = createServer(certificate, (client) => {
    names.push(client.servername);
    const port = routes.get(String(client.servername));
    const upstream = port === undefined ? undefined : connectPlain(port, '127.0.0.1');
    if (upstream === undefined) {
      client.destroy();
      return;
    }
    client.pipe(upstream).pipe(client);
    client.on('error', () => upstream.destroy()).on('close', () => upstream.destroy());
    upstream.on('error', () => client.destroy()).on('close', () => client.destroy());
  }).listen(0, '127.0.0.1');
  await once(gateway, 'listening');
  onTestFinished(() => void gateway.close());
  return { port: (gateway.address() as { port: number }).port, names };
}

describeWithTls('a gateway that routes by the server name of TLS', () => {
  let authority: Authority;
  beforeAll(async () => {
    authority = await createAuthority();
  });
  afterAll(() => authority.remove());

  it('the host of a rediss: URL is sent as the server name, for commands and for the subscriber', async () => {
    const port = Number(new URL(redisUrl()).port);
    const gateway = await startGateway(
      authority,
      new Map([
        ['localhost', port],
        ['db.redis.test', port],
      ]),
    );
    const kit = kitForTest({ url: `rediss://localhost:${gateway.port}`, tls: { ca: authority.ca } });
    await expectToWork(kit);
    expect(gateway.names).toEqual(['localhost', 'localhost']);
    const named = { ca: authority.ca, servername: 'db.redis.test' };
    await kitForTest({ host: '127.0.0.1', port: gateway.port, tls: named }).ready();
    expect(gateway.names.at(-1)).toBe('db.redis.test');
  });

  it('an address is not sent as a server name', async () => {
    const gateway = await startGateway(authority, new Map());
    const url = `rediss://127.0.0.1:${gateway.port}`;
    expect(await refusal({ url, tls: { ca: authority.ca } })).toContain('cannot be reached');
    expect(gateway.names[0]).toBe(false);
  });

  it('on a cluster, each node gets its own server name', async () => {
    const nameOf = (address: string) => `node-${address.split(':')[1]}.redis.test`;
    const routes = new Map(clusterNodes().map(({ host, port }) => [nameOf(`${host}:${port}`), port]));
    const gateway = await startGateway(authority, routes);
    const lookup: LookupFunction = (_host, _options, done) =>
      done(null, [{ address: '127.0.0.1', family: 4 }]);
    const kit = kitForTest({
      cluster: {
        nodes: [...routes.keys()].map((host) => ({ host, port: gateway.port })),
        tls: { ca: authority.ca, lookup },
        nodeAddressMap: (address) => ({ host: nameOf(address), port: gateway.port }),
      },
    });
    await kit.ready();
    await expectToWork(kit);
    const locks = await Promise.all(Array.from({ length: 24 }, (_, id) => kit.locks.tryAcquire(`id-${id}`)));
    expect(locks.every((lock) => lock !== null)).toBe(true);
    expect(new Set(gateway.names)).toEqual(new Set(routes.keys()));
  });
});
