import { randomBytes } from 'node:crypto';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { SessionOptions } from '../../src/index.ts';
import { aesSeal, noSeal } from '../../src/session/seal.ts';
import { redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { connectPlainClient } from '../support/plain-client.ts';
import { Browser, type Routes, serveSessions } from './browser.ts';

const [OLD, NEW] = [randomBytes(32), randomBytes(32)] as const;

const ROUTES: Routes = {
  '/in': async (req, res) => {
    await req.session.login('ann', { data: { note: 'a secret note' } });
    res.end('in');
  },
};

describe('encrypted sessions', () => {
  async function start(options: SessionOptions, prefix = testPrefix()) {
    const kit = kitForTest({ url: redisUrl(), prefix });
    return { kit, prefix, port: await serveSessions(kit, options, ROUTES) };
  }

  function moved(browser: Browser, port: number): Browser {
    const other = new Browser(port);
    for (const [name, value] of browser.cookies) other.cookies.set(name, value);
    return other;
  }

  it('an encrypted session shows neither its data nor the address of its user in Redis', async () => {
    const { kit, port } = await start({ encrypt: { keys: [OLD] } });
    const browser = new Browser(port);
    await browser.get('/in', { headers: { 'User-Agent': 'A rare browser' } });
    expect(await browser.data()).toEqual({ userId: 'ann', note: 'a secret note' });
    const client = await connectPlainClient(redisUrl());
    onTestFinished(() => client.destroy());
    const stored = String(await client.get(browser.keyIn(kit)));
    for (const secret of ['secret note', 'ann', 'rare browser', '127.0.0.1']) {
      expect(stored).not.toContain(secret);
    }
    expect(await kit.sessions.list('ann')).toMatchObject([{ userAgent: 'A rare browser' }]);
    // A kit without the keys lists the sessions, but not their devices.
    const other = kitForTest({ url: redisUrl(), prefix: kit.prefix });
    expect(await other.sessions.list('ann')).toMatchObject([{ handle: expect.any(String) }]);
    expect((await other.sessions.list('ann'))[0]?.userAgent).toBeUndefined();
  });

  it('an encrypted session is read with any key and written with the first', async () => {
    const { prefix, port } = await start({ encrypt: { keys: [OLD] } });
    const browser = new Browser(port);
    await browser.get('/view');
    const { port: both } = await start({ encrypt: { keys: [NEW, OLD] } }, prefix);
    const second = moved(browser, both);
    expect(await second.data()).toEqual({ views: 1 });
    await second.get('/view');
    const { port: after } = await start({ encrypt: { keys: [NEW] } }, prefix);
    expect(await moved(browser, after).data()).toEqual({ views: 2 });
    const { kit, port: lost } = await start({ encrypt: { keys: [OLD] } }, prefix);
    const corrupt = eventsOf(kit, 'session:corrupt');
    expect(await moved(browser, lost).data()).toEqual({});
    expect(corrupt).toHaveLength(1);
  });

  it('a plain stored session, which an attacker could forge in Redis, is not accepted with `encrypt`', async () => {
    const { prefix, port } = await start({});
    const browser = new Browser(port);
    await browser.get('/view');
    const { port: sealed } = await start({ encrypt: { keys: [OLD] } }, prefix);
    expect(await moved(browser, sealed).data()).toEqual({});
  });

  it.each([
    [{ keys: [] }],
    [{ keys: [randomBytes(16)] }],
    [{ keys: ['x'.repeat(32)] }],
    [{ keys: OLD }],
    [{}],
  ])('the option `encrypt` needs keys of 32 bytes', (encrypt) => {
    const kit = kitForTest({ url: 'memory:' });
    const options = { encrypt } as unknown as SessionOptions;
    expect(() => kit.session({ secret: 'a secret of the tests', ...options })).toThrow(
      /`encrypt` is not usable; `keys` must be an array of keys of 32 bytes/,
    );
  });
});

describe('a seal', () => {
  const plain = Buffer.from('{"a":1}');

  it('an encrypted value opens only with the handle of its session and only if no byte has changed', () => {
    const seal = aesSeal([OLD]);
    const closed = seal.close(plain, 'one');
    expect(seal.open(closed, 'one')).toEqual(plain);
    expect(seal.open(closed, 'two')).toBeUndefined();
    for (let at = 0; at < closed.length; at++) {
      const changed = Buffer.from(closed);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(seal.open(changed, 'one')).toBeUndefined();
      expect(seal.open(closed.subarray(0, at), 'one')).toBeUndefined();
    }
    expect(seal.close(plain, 'one')).not.toEqual(closed);
  });

  it('a seal without encryption opens plain values only', () => {
    expect(noSeal.open(noSeal.close(plain, 'one'), 'two')).toEqual(plain);
    expect(noSeal.open(aesSeal([OLD]).close(plain, 'one'), 'one')).toBeUndefined();
    expect(noSeal.open(Buffer.alloc(0), 'one')).toBeUndefined();
  });
});
