import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from './context.ts';
import { assertKeysAreOurs, keysOn } from './keys-guard.ts';
import { connectPlainClient, type PlainClient } from './plain-client.ts';
import { startRedis } from './servers.ts';

describeWithServers('the keys guard', () => {
  let url: string;
  let client: PlainClient;

  beforeEach(async () => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    url = server.url;
    client = await connectPlainClient(url);
    onTestFinished(() => client.destroy());
  });

  it('the keys guard accepts keys that begin with the prefix and have a TTL', async () => {
    await client.set('t-key', 'value', { EX: 60 });
    await expect(assertKeysAreOurs(url, /^t-/)).resolves.toBeUndefined();
  });

  it('the keys guard reports a key without a TTL', async () => {
    await client.set('t-key', 'value');
    await expect(assertKeysAreOurs(url, /^t-/)).rejects.toThrow('t-key: has no TTL');
  });

  it('the keys guard accepts a key without a TTL only if its name says that it is kept for ever', async () => {
    await client.set('t-1:document:{a}:forever', 'value');
    await expect(assertKeysAreOurs(url, /^t-/)).resolves.toBeUndefined();
    await client.set('t-1:session:{forever}', 'value');
    await expect(assertKeysAreOurs(url, /^t-/)).rejects.toThrow('t-1:session:{forever}: has no TTL');
  });

  it('the keys guard reports a key with a foreign prefix, even if the key has a TTL', async () => {
    await client.set('foreign-key', 'value', { EX: 60 });
    await expect(assertKeysAreOurs(url, /^t-/)).rejects.toThrow('foreign-key: begins with no prefix of ours');
  });

  it('the keys guard counts all wrong keys among thousands and shows the first ones', async () => {
    await client.mSet(Array.from({ length: 5_000 }, (_, index): [string, string] => [`t-${index}`, 'value']));
    await expect(assertKeysAreOurs(url, /^t-/)).rejects.toThrow(/rules, 5000 in all:.*and 4980 more$/s);
  });

  it('the keys guard ignores keys that begin with `outside-`', async () => {
    await client.set('outside-key', 'value');
    await expect(assertKeysAreOurs(url, /^t-/)).resolves.toBeUndefined();
  });

  it('the keys guard ignores keys that existed before the tests', async () => {
    await client.set('foreign-key', 'value', { EX: 60 });
    await expect(assertKeysAreOurs(url, /^t-/, await keysOn(url))).resolves.toBeUndefined();
  });
});
