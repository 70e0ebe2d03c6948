import express from 'express';
import { expect, it } from 'vitest';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { send, serve } from '../support/web.ts';

const REENTRY = { code: 'ERR_REDIS_KIT_LOCK_REENTRY' };

describeOnBothEngines('a lock that is held already', (url) => {
  it('by the request that asks again is an error at once', async () => {
    const kit = kitForTest({ url: url() });
    const app = express().set('env', 'test');
    const lock = () => kit.lock({ key: () => 'a', wait: '20s' });
    app.get('/', lock(), express.json(), lock(), (_req, res) => void res.send('ran'));
    app.use((error: { code: string }, _req: unknown, res: express.Response, _next: unknown) => {
      res.status(500).send(error.code);
    });
    const address = await serve(app);
    for (let turn = 0; turn < 2; turn++) {
      expect(await send(address)).toMatchObject({ status: 500, text: REENTRY.code });
    }
  });

  it('by the handler’s own request, several calls deep', async () => {
    const kit = kitForTest({ url: url() });
    const deep = async () => {
      await new Promise((resolve) => setImmediate(resolve));
      return kit.locks.acquire(['b', 'a'], { wait: '20s' });
    };
    const app = express();
    app.get('/', kit.lock({ key: () => 'a' }), async (_req, res) => {
      const error = await deep().catch((reason: unknown) => reason);
      res.json(error);
    });
    const { text } = await send(await serve(app));
    expect(JSON.parse(text)).toMatchObject(REENTRY);
    expect((await kit.locks.inspect('b')).held).toBe(false);
  });

  it('by `using` around it', async () => {
    const { locks } = kitForTest({ url: url() });
    await locks.using('a', {}, async () => {
      await expect(locks.tryAcquire('a')).rejects.toMatchObject(REENTRY);
      await expect(locks.acquire('a')).rejects.toThrow(/pass the handle on/);
      await locks.using('b', {}, async () => {
        await expect(locks.acquire('a')).rejects.toMatchObject(REENTRY);
        await expect(locks.acquire('b')).rejects.toMatchObject(REENTRY);
      });
      await locks.using('b', {}, () => undefined);
    });
    expect(await locks.tryAcquire('a')).not.toBeNull();
  });

  it('is no matter once it was given back, nor in another namespace, nor for other work', async () => {
    const kit = kitForTest({ url: url() });
    const { locks } = kit;
    await locks.using('a', {}, async (lock) => {
      await kit.namespace('other').locks.using('a', {}, () => undefined);
      await lock.release();
      await locks.using('a', {}, () => undefined);
    });
    const first = await locks.acquire('a');
    const second = locks.acquire('a', { wait: '20s' });
    await first.release();
    await second;
  });
});
