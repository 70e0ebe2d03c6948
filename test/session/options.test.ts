import { describe, expect, it } from 'vitest';
import type { SessionOptions } from '../../src/index.ts';
import { kitForTest } from '../support/kits.ts';
import { SECRET } from './browser.ts';

describe('the options of kit.session', () => {
  const wrong: readonly (readonly [name: string, options: unknown, message: RegExp])[] = [
    ['an unknown option', { tty: '1h' }, /kit\.session: unknown option `tty`; known options: secret,/],
    ['an option of connect-redis', { ttl: '1h' }, /unknown option `ttl`; it is `idle` here/],
    ['an option of express-session', { resave: false }, /`resave`; leave it out: only what has changed/],
    ['a mistyped option', { idel: '1h' }, /did you mean `idle`\?/],
    [
      'an empty secret',
      { secret: '' },
      /`secret` is not usable; it must be a string of at least 8 characters/,
    ],
    ['a short secret', { secret: 'hunter2' }, /`secret` is not usable/],
    ['no secret at all', { secret: [] }, /`secret` is not usable/],
    ['a number as a secret', { secret: ['a long secret', 5] }, /`secret` is not usable/],
    [
      'a cookie name with a space',
      { name: 'my sid' },
      /`name` is 'my sid'; it has characters that no cookie/,
    ],
    [
      '__Host- in the clear',
      { name: '__Host-sid' },
      /`name` is '__Host-sid'; .*only with `cookie: \{ secure: true \}`/,
    ],
    [
      '__Secure- in the clear',
      { name: '__Secure-sid', cookie: { secure: false } },
      /only with `cookie: \{ secure: true \}`/,
    ],
    [
      '__host- with a path',
      { name: '__host-sid', cookie: { secure: true, path: '/a' } },
      /only with the path '\/'/,
    ],
    [
      '__Host- with a domain',
      { name: '__Host-sid', cookie: { secure: true, domain: 'a.b' } },
      /without a domain/,
    ],
    [
      'an idle time of nothing',
      { idle: 0 },
      /`idle` is 0; it must be a positive whole number of milliseconds/,
    ],
    ['an idle time without a unit', { idle: '30' }, /`idle` is '30'/],
    ['an idle time that is no number', { idle: Number.NaN }, /`idle` is NaN/],
    [
      'an end before the idle time is over',
      { idle: '1h', absolute: '30m' },
      /`absolute` is '30m'; it must not be shorter/,
    ],
    [
      'a touch after the end',
      { idle: '1m', touchAfter: '1m' },
      /`touchAfter` is '1m'; it must be shorter than `idle`/,
    ],
    ['another policy', { onError: 'allow' }, /`onError` is 'allow'; it must be one of 'error', 'anonymous'/],
    ['a text for rolling', { rolling: 'yes' }, /`rolling` is 'yes'; it must be true or false/],
    ['another unset', { unset: 'drop' }, /`unset` is 'drop'; it must be one of 'destroy', 'keep'/],
    ['a genid that is no function', { genid: 'abc' }, /`genid` is 'abc'; it must be a function/],
    ['a cookie that is none', { cookie: null }, /cookie.*options must be an object, got null/],
    [
      'an unknown part of the cookie',
      { cookie: { maxage: 1 } },
      /kit\.session\(\{ cookie \}\): unknown option `maxage`; did you mean `maxAge`/,
    ],
    ['another sameSite', { cookie: { sameSite: 'Lax ' } }, /`sameSite` is 'Lax '; it must be one of/],
    [
      'sameSite none in the clear',
      { cookie: { sameSite: 'none', secure: false } },
      /`sameSite` is 'none'; browsers/,
    ],
    [
      'partitioned in the clear',
      { cookie: { partitioned: true, secure: false } },
      /`partitioned` is true; browsers/,
    ],
    ['a domain that is none', { cookie: { domain: 'a b' } }, /`domain` is 'a b'; it must be a host name/],
    ['a path that is none', { cookie: { path: 'a' } }, /`path` is 'a'; it must begin with '\/'/],
    ['a path with a semicolon', { cookie: { path: '/a;b' } }, /`path` is '\/a;b'/],
    ['a negative maxAge', { cookie: { maxAge: -1 } }, /`maxAge` is -1/],
    ['a text for httpOnly', { cookie: { httpOnly: 'no' } }, /`httpOnly` is 'no'; it must be true or false/],
    [
      'a number for secure',
      { cookie: { secure: 1 } },
      /`secure` is 1; it must be one of true, false, 'auto'/,
    ],
    ['another priority', { cookie: { priority: 'top' } }, /`priority` is 'top'; it must be one of 'low'/],
  ];
  it.each(wrong)('an invalid option is an error that names the remedy: %s', (_name, options, message) => {
    const kit = kitForTest({ url: 'memory:' });
    const make = () => kit.session({ secret: SECRET, ...(options as SessionOptions) });
    expect(make).toThrow(message);
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_REDIS_KIT_CONFIG' }));
  });

  it('the error for an invalid secret shows none of the secrets', () => {
    const make = () => kitForTest({ url: 'memory:' }).session({ secret: ['hush-hush', ''] });
    expect(make).not.toThrow(/hush/);
  });

  it('a missing secret is an error with Redis, and a warning on memory:', () => {
    expect(() => kitForTest({ url: 'redis://127.0.0.1:1' }).session()).toThrow(
      /`secret` is missing; give a long random string/,
    );
    const warnings: string[] = [];
    const quiet = () => undefined;
    const logger = {
      debug: quiet,
      info: quiet,
      error: quiet,
      warn: (message: string) => warnings.push(message),
    };
    const kit = kitForTest({ url: 'memory:', logger });
    kit.session();
    kit.session();
    expect(warnings).toEqual([expect.stringContaining('kit.session has no `secret`')]);
  });
});
