import type { IncomingMessage, ServerResponse } from 'node:http';
import express from 'express';
import { expect, it } from 'vitest';
import type { LockHandle, LockHandler, LockOptions } from '../../src/index.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../support/kits.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

function gate() {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

describeOnBothEngines('A handler passed to kit.lock', (url) => {
  async function start(handler: LockHandler, options: Partial<LockOptions> = {}) {
    const kit = kitForTest({ url: url() });
    const app = express().set('env', 'test');
    app.get('/', kit.lock({ key: () => 'a', ...options }, handler), (_req, res) => void res.send('next'));
    return { kit, address: await serve(app) };
  }

  it('a handler gets its lock, which is released when its promise settles', async () => {
    const { kit, address } = await start(async (req, res, lock) => {
      expect(req.lock).toBe(lock);
      lock.assertHeld();
      res.json(lock.fence);
    });
    const { status, text } = await send(address);
    expect([status, Number(text) > 0]).toEqual([200, true]);
    expect((await kit.locks.inspect('a')).held).toBe(false);
  });

  it('a handler that continues after its response holds its lock until its promise settles', async () => {
    const { opened, open } = gate();
    const { kit, address } = await start(async (_req, res) => {
      res.send('early');
      await opened;
    });
    expect((await send(address)).text).toBe('early');
    expect((await kit.locks.inspect('a')).held).toBe(true);
    expect((await send(address)).status).toBe(409);
    open();
    await until('it is free', async () => !(await kit.locks.inspect('a')).held);
  });

  it('a client that sends 200 consecutive requests is never refused because of the lock of its last request', async () => {
    const { address } = await start(async (_req, res) => {
      await null;
      res.send('ran');
    });
    for (let turn = 0; turn < 200; turn++) expect((await send(address)).status).toBe(200);
  });

  it('a handler that returns no promise holds its lock until its response has ended', async () => {
    const { opened, open } = gate();
    const { kit, address } = await start((_req, res) => {
      void opened.then(() => res.send('late'));
    });
    const first = send(address);
    await until('it holds', async () => (await kit.locks.inspect('a')).held);
    expect((await send(address)).status).toBe(409);
    open();
    expect((await first).text).toBe('late');
    expect((await kit.locks.inspect('a')).held).toBe(false);
  });

  it.each([
    [
      'throws',
      () => {
        throw new Error('on purpose');
      },
    ],
    [
      'rejects',
      async () => {
        await null;
        throw new Error('on purpose');
      },
    ],
  ])('a handler that %s releases its lock, and the error reaches the app', async (_, handler) => {
    const { kit, address } = await start(handler);
    for (let turn = 0; turn < 3; turn++) expect((await send(address)).status).toBe(500);
    expect((await kit.locks.inspect('a')).held).toBe(false);
  });

  it('a handler does not run for a refused request, even if the option `handler` calls next()', async () => {
    let runs = 0;
    const { kit, address } = await start((_req, res) => void res.send(`ran ${++runs}`), {
      handler: (_req, _res, next) => next(),
    });
    const held = await kit.locks.acquire('a');
    expect((await send(address)).text).toBe('next');
    await held.release();
    expect((await send(address)).text).toBe('ran 1');
  });

  it('a handler runs without a lock when the key is null', async () => {
    const seen: (LockHandle | undefined)[] = [];
    const { address } = await start(
      async (_req, res, lock) => {
        seen.push(lock);
        res.send('ran');
      },
      { key: () => null },
    );
    expect((await send(address)).text).toBe('ran');
    expect(seen).toEqual([undefined]);
  });

  it('a handler loses its lock after maxHold, and the signal of the lock aborts', async () => {
    const { opened, open } = gate();
    const reasons: string[] = [];
    const { kit, address } = await start(
      async (_req, res, lock) => {
        await new Promise((resolve) => lock.signal.addEventListener('abort', resolve));
        reasons.push(String(lock.signal.reason));
        await opened;
        res.send('late');
      },
      { maxHold: '200ms' },
    );
    const lost = eventsOf(kit, 'lock:lost');
    const answer = send(address);
    await until('it is lost', () => reasons.length === 1);
    expect(reasons[0]).toContain('more than 200 ms');
    expect(lost).toHaveLength(1);
    await until('it is free', async () => !(await kit.locks.inspect('a')).held);
    open();
    expect((await answer).text).toBe('late');
  });

  it('kit.lock works on plain node:http', async () => {
    const kit = kitForTest({ url: url() });
    const locked = kit.lock<IncomingMessage, ServerResponse>(
      { key: (req) => req.url ?? null },
      async (_req, res, lock) => {
        res.end(String(lock.keys));
      },
    );
    const address = await serve((req, res) => locked(req, res, () => res.end('next')));
    expect((await send(`${address}/x`)).text).toBe('/x');
  });
});
