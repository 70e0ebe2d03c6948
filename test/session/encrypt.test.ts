import { randomBytes } from 'node:crypto';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { SessionOptions } from '../../src/index.ts';
import { LineCipher } from '../../src/session/line-cipher.ts';
import { packData, unpackData } from '../../src/session/operations/data.ts';
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
  const entries = {
    meta: new Map([['cookie', '{}']]),
    content: new Map([
      ['a', '1'],
      ['b', '"secret"'],
    ]),
  };
  const opened = { meta: '{\n"cookie":{}}', content: '{\n"a":1,\n"b":"secret"}', isCurrent: true };

  /** The lines of the content of sealed data, without the line feeds. */
  function linesOf(data: Buffer): readonly string[] {
    return unpackData(data)?.content.slice(2, -1).split(',\n') ?? [];
  }

  function withContent(data: Buffer, lines: readonly string[]): Buffer {
    const { format = 0, size = 0, meta = '' } = unpackData(data) ?? {};
    return packData(format, size, { meta, content: `{\n${lines.join(',\n')}}` });
  }

  it('sealed data opens only with the handle of its session', () => {
    const seal = aesSeal([OLD]);
    const { data } = seal.close(entries, 'one');
    expect(seal.open(data, 'one')).toEqual(opened);
    expect(seal.open(data, 'two')).toBeUndefined();
    expect(seal.close(entries, 'one').data).not.toEqual(data);
  });

  it('truncated sealed data does not open', () => {
    const seal = aesSeal([OLD]);
    const { data } = seal.close(entries, 'one');
    for (let length = 0; length < data.length; length++) {
      expect(seal.open(data.subarray(0, length), 'one')).toBeUndefined();
    }
  });

  it('a sealed line with a changed bit does not open', () => {
    const cipher = new LineCipher(OLD);
    const { start, value } = cipher.close('a', '1', 'place');
    const [name, sealed] = [start.slice(2, -2), Buffer.from(value, 'base64url')];
    expect(cipher.open(name, sealed, 'place')).toBe('"a":1');
    expect(cipher.open(name, sealed, 'other place')).toBeUndefined();
    for (let at = 0; at < sealed.length; at++) {
      const changed = Buffer.from(sealed);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(cipher.open(name, changed, 'place')).toBeUndefined();
    }
  });

  it('the values of sealed lines cannot be exchanged between keys, objects or sessions', () => {
    const seal = aesSeal([OLD]);
    const { data } = seal.close(entries, 'one');
    const [a = '', b = ''] = linesOf(data);
    expect(seal.open(withContent(data, [a, b]), 'one')).toEqual(opened);
    const valueIn = (line: string) => line.slice(line.indexOf(':'));
    const nameOf = (line: string) => line.slice(0, line.indexOf(':'));
    const [other = ''] = linesOf(seal.close(entries, 'two').data);
    const [meta = ''] = [unpackData(data)?.meta.slice(2, -1)];
    const forged = [nameOf(a) + valueIn(b), nameOf(b) + valueIn(a), other, nameOf(a) + valueIn(other), meta];
    for (const line of forged) expect(seal.open(withContent(data, [line]), 'one')).toBeUndefined();
  });

  it('the stored names of sealed lines differ between sessions, objects and keys', () => {
    const names = ['one', 'two'].flatMap((handle) =>
      [OLD, NEW].flatMap((key) => {
        const same = new Map([['a', '1']]);
        const { meta, content } = aesSeal([key]).changesOf({ meta: same, content: same }, handle);
        return [...meta, ...content].map(({ start }) => start);
      }),
    );
    expect(names).toHaveLength(8);
    expect(new Set(names).size).toBe(8);
    for (const name of names) expect(name).toMatch(/^\n"[\w-]{22}":$/);
  });

  it('the size of sealed data is that of the plain data', () => {
    const [plain, sealed] = [noSeal.close(entries, 'one'), aesSeal([OLD]).close(entries, 'one')];
    expect(plain.size).toBe(plain.data.length - 1);
    expect(Math.abs(sealed.size - plain.size)).toBeLessThanOrEqual(2);
  });

  it('a seal without encryption opens plain data only', () => {
    expect(noSeal.open(noSeal.close(entries, 'one').data, 'two')).toEqual(opened);
    expect(noSeal.open(aesSeal([OLD]).close(entries, 'one').data, 'one')).toBeUndefined();
    expect(noSeal.open(Buffer.alloc(0), 'one')).toBeUndefined();
  });

  it('a seal with encryption opens no plain data', () => {
    expect(aesSeal([OLD]).open(noSeal.close(entries, 'one').data, 'one')).toBeUndefined();
  });
});
