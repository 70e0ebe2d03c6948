import { expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from './context.ts';
import { connectPlainClient, withPlainClient } from './plain-client.ts';
import { startRedis } from './servers.ts';
import { countCommands } from './wire.ts';

async function startServerAndClient() {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const client = await connectPlainClient(server.url);
  onTestFinished(() => client.destroy());
  return { url: server.url, client };
}

describeWithServers('countCommands', () => {
  it('countCommands lists the commands that the server received, in order', async () => {
    const { url, client } = await startServerAndClient();
    await client.set('before', 'not counted');
    const commands = await countCommands(url, async () => {
      await client.set('key', 'value', { EX: 60 });
      await client.get('key');
    });
    await client.set('after', 'not counted');
    expect(commands).toEqual([
      ['SET', 'key', 'value', 'EX', '60'],
      ['GET', 'key'],
    ]);
  });

  it('countCommands returns an empty list if no command was sent', async () => {
    const { url } = await startServerAndClient();
    expect(await countCommands(url, () => undefined)).toEqual([]);
  });

  it('countCommands counts a script as one command', async () => {
    const { url, client } = await startServerAndClient();
    const script = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])";
    const sha = await client.scriptLoad(script);
    const commands = await countCommands(url, async () => {
      await client.eval(script, { keys: ['key'], arguments: ['a'] });
      await client.evalSha(sha, { keys: ['key'], arguments: ['b'] });
      await client.evalSha('0'.repeat(40), { keys: [], arguments: [] }).catch(expectNoScript);
    });
    expect(commands.map(([name]) => name)).toEqual(['EVAL', 'EVALSHA', 'EVALSHA']);
    expect(commands[1]).toEqual(['EVALSHA', sha, '1', 'key', 'b']);
  });

  it('countCommands counts every command of a transaction and of a pipeline', async () => {
    const { url, client } = await startServerAndClient();
    const commands = await countCommands(url, async () => {
      await client.multi().incr('a').incr('b').exec();
      await Promise.all([client.incr('a'), client.incr('b')]);
    });
    expect(commands.map(([name]) => name)).toEqual(['MULTI', 'INCR', 'INCR', 'EXEC', 'INCR', 'INCR']);
  });

  it('countCommands lists the commands of all clients, including subscriptions', async () => {
    const { url } = await startServerAndClient();
    const commands = await countCommands(url, () =>
      withPlainClient(url, async (other) => {
        await other.subscribe('channel', () => undefined);
        await withPlainClient(url, (third) => third.publish('channel', 'hello'));
      }),
    );
    expect(commands.filter(([name]) => /SUBSCRIBE|PUBLISH/.test(name))).toEqual([
      ['SUBSCRIBE', 'channel'],
      ['PUBLISH', 'channel', 'hello'],
    ]);
  });

  it('countCommands returns arguments unchanged', async () => {
    const { url, client } = await startServerAndClient();
    const value = '"quoted" \\ back\n\r\t\x07\b\0 ] lua] Grüße ☃ 🎉';
    const commands = await countCommands(url, () => client.set('key', value));
    expect(commands).toEqual([['SET', 'key', value]]);
  });

  it('countCommands works on a server with a password and hides the password', async () => {
    const server = await startRedis({ args: ['--requirepass', 'secret'] });
    onTestFinished(() => server.stop());
    const url = `redis://:secret@${server.host}:${server.port}`;
    const commands = await countCommands(url, () =>
      withPlainClient(url, (client) => client.get('t-nothing')),
    );
    expect(commands).toContainEqual(['GET', 't-nothing']);
    expect(JSON.stringify(commands)).not.toContain('secret');
  });

  it('countCommands rejects with the error that its callback rejects with', async () => {
    const { url } = await startServerAndClient();
    const work = () => Promise.reject(new Error('the work failed'));
    await expect(countCommands(url, work)).rejects.toThrow('the work failed');
  });
});

function expectNoScript(error: unknown): void {
  expect(String(error)).toContain('NOSCRIPT');
}
