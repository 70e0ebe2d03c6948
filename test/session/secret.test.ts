import { createSecretKey, randomBytes } from 'node:crypto';
import express from 'express';
import expressSession from 'express-session';
import { describe, expect, it } from 'vitest';
import type { SessionOptions } from '../../src/index.ts';
import { serve } from '../http/exchange.ts';
import { EXPRESS } from '../http/frameworks.ts';
import { kitForTest, testPrefix } from '../support/kits.ts';
import { onEveryStore } from '../support/stores.ts';
import { Browser, SECRET, serveSessions, withRoutes } from './browser.ts';

type Secret = SessionOptions['secret'];

const BYTES = randomBytes(32);
const OTHER = randomBytes(32);

/** All kinds of secrets that cookie-signature passes to `crypto.createHmac`, with the same bytes. */
const KINDS: readonly (readonly [name: string, secret: Secret & expressSession.SessionOptions['secret']])[] =
  [
    ['a Buffer', BYTES],
    ['a Uint8Array', Uint8Array.from(BYTES)],
    ['a DataView', new DataView(BYTES.buffer, BYTES.byteOffset, BYTES.length)],
    ['a KeyObject', createSecretKey(BYTES)],
    ['an array of Buffers', [BYTES, OTHER]],
  ];

function moved(browser: Browser, port: number): Browser {
  const other = new Browser(port);
  for (const [name, value] of browser.cookies) other.cookies.set(name, value);
  return other;
}

onEveryStore('kit.session with a secret of bytes', (kitOf) => {
  it.each(KINDS)(
    'a secret of kind %s signs and accepts cookies as express-session does',
    async (_, secret) => {
      const kit = kitOf();
      const theirSession = expressSession({
        store: kit.sessionStore(),
        secret,
        resave: false,
        saveUninitialized: false,
      });
      const app = express().set('env', 'test').use(theirSession);
      const theirs = new Browser(await serve(withRoutes(app, {})));
      await theirs.get('/view');
      const ours = moved(theirs, await serveSessions(kit, { secret }));
      expect((await ours.get('/view')).body).toBe('2');
      const begun = new Browser(ours.port);
      await begun.get('/view');
      expect((await moved(begun, theirs.port).get('/view')).body).toBe('2');
    },
  );

  it('the first secret of an array signs cookies, and cookies that any of the secrets has signed are accepted', async () => {
    const kit = kitOf();
    const before = new Browser(await serveSessions(kit, { secret: SECRET }));
    await before.get('/view');
    const port = await serveSessions(kit, { secret: [BYTES, SECRET] });
    expect((await moved(before, port).get('/view')).body).toBe('2');
    const begun = new Browser(port);
    await begun.get('/view');
    expect(await moved(begun, before.port).data()).toEqual({});
    expect(await moved(begun, await serveSessions(kit, { secret: BYTES })).data()).toEqual({ views: 1 });
  });

  it.each(EXPRESS)('secret bytes that the app overwrites still sign cookies, on %s', async (_, makeApp) => {
    const kit = kitOf();
    const secret = Buffer.from(BYTES);
    const browser = new Browser(await serveSessions(kit, { secret }, {}, makeApp()));
    await browser.get('/view');
    secret.fill(0);
    expect((await browser.get('/view')).body).toBe('2');
  });
});

describe('kit.session', () => {
  it.each<[string, unknown]>([
    ['a Buffer of 7 bytes', randomBytes(7)],
    ['an empty Buffer', Buffer.alloc(0)],
    ['a key of 7 bytes', createSecretKey(randomBytes(7))],
    ['a short Buffer behind a long one', [BYTES, randomBytes(7)]],
    ['an array of numbers', [1, 2, 3, 4, 5, 6, 7, 8, 9]],
    ['an ArrayBuffer', new ArrayBuffer(32)],
    ['an object', { length: 32 }],
  ])('a secret of %s is rejected with a message that does not show the secret', (_, secret) => {
    const kit = kitForTest({ url: 'memory:', prefix: testPrefix() });
    const options = { secret } as SessionOptions;
    expect(() => kit.session(options)).toThrow(
      'kit.session: option `secret` is not usable; it must be a string of at least 8 characters',
    );
  });

  it('a secret of 8 bytes is accepted', () => {
    const kit = kitForTest({ url: 'memory:' });
    expect(kit.session({ secret: randomBytes(8) })).toBeTypeOf('function');
  });
});
