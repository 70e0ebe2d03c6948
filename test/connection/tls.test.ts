import { afterAll, beforeAll, expect, it } from 'vitest';
import { kitForTest } from '../support/kits.ts';
import { describeWithTls, startTlsRedis, type TlsRedis } from '../support/tls-server.ts';

describeWithTls('a kit on a Redis server with TLS', () => {
  let redis: TlsRedis;
  beforeAll(async () => {
    redis = await startTlsRedis({ requiresClientCertificate: true });
  });
  afterAll(() => redis.stop());

  it('a rediss: URL with a private authority and a client certificate connects', async () => {
    const kit = kitForTest({ url: redis.url, tls: redis.tls });
    await kit.ready();
    expect(await kit.locks.tryAcquire('a')).not.toBeNull();
  });
});
