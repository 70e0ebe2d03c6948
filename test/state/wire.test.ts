import { expect, it, onTestFinished } from 'vitest';
import type { RedisKit } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { startRedis } from '../support/servers.ts';
import { countCommands } from '../support/wire.ts';

/** Every call of the three features, with the commands that it sends. */
function callsOf(
  kit: RedisKit,
): readonly (readonly [name: string, count: number, call: () => Promise<unknown>])[] {
  const { app } = kit.state({ app: { ttl: '1h' }, touch: 'read' });
  const documents = kit.documents<number>('documents', { ttl: '1h' });
  const members = kit.members('members', { ttl: '1h' });
  return [
    ['set', 1, () => app.set('a', 1)],
    ['patch', 1, () => app.patch({ a: 1, b: 2, c: 3 })],
    ['increment', 1, () => app.increment('a')],
    ['get', 1, () => app.get('a')],
    ['all', 1, () => app.all()],
    ['delete', 1, () => app.delete('a', 'b')],
    ['clear', 1, () => app.clear()],
    ['set a document', 1, () => documents.set('a', 1)],
    ['get a document', 1, () => documents.get('a')],
    ['setIfAbsent', 1, () => documents.setIfAbsent('a', 1)],
    ['update', 2, () => documents.update('a', (count = 0) => count + 1)],
    [
      '10 updates',
      20,
      () => Promise.all(Array.from({ length: 10 }, () => documents.update('a', (count = 0) => count + 1))),
    ],
    ['update nothing', 1, () => documents.update('absent', () => undefined)],
    ['delete a document', 1, () => documents.delete('a')],
    ['add', 1, () => members.add('a', 'b')],
    ['has', 1, () => members.has('a', 'b')],
    ['size', 1, () => members.size('a')],
    ['list', 1, () => members.list('a')],
    ['remove', 1, () => members.remove('a', 'b')],
    ['clear', 1, () => members.clear('a')],
  ];
}

describeWithServers('The commands of state, documents and members', () => {
  it('each call sends one command, and an update two', async () => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const kit = kitForTest({ url: server.url });
    const calls = callsOf(kit);
    // The server learns the scripts.
    for (const [, , call] of calls) await call();
    for (const [name, count, call] of calls) {
      const commands = await countCommands(server.url, call);
      expect(commands, name).toHaveLength(count);
    }
    const state = kit.state({
      app: { ttl: '1h' },
      user: { id: () => 'ann', ttl: '1h' },
      session: { ttl: '1h' },
    });
    const req = { method: 'GET', url: '/', headers: {}, sessionID: 'a' };
    const commands = await countCommands(server.url, () => {
      state(req as never, {} as never, () => undefined);
      const { app, user, session } = (req as { state?: object }).state as Record<string, unknown>;
      expect([app, user, session]).not.toContain(undefined);
    });
    expect(commands).toEqual([]);
  });

  it('each call rejects at once while Redis is down, and works again afterwards', async () => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const kit = kitForTest({ url: server.url });
    const calls = callsOf(kit);
    const errors = eventsOf(kit, 'error');
    await kit.ready();
    await server.kill();
    for (const [name, , call] of calls) {
      await expect(call(), name).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONNECTION', status: 503 });
    }
    // The caller receives the error, so that it is no event.
    expect(errors).toEqual([]);
    expect((await kit.check()).ok).toBe(false);
    await server.restart();
    await kit.ready();
    for (const [, , call] of calls) await call();
    await kit.close();
    for (const [name, , call] of calls) {
      await expect(call(), name).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CLOSED' });
    }
  });
});
