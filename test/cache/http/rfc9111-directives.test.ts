import { beforeAll, describe, expect, it } from 'vitest';
import { describeBySeconds } from '../../support/kits.ts';
import { loadCacheScripts } from '../scripts.ts';
import { isStored, says, site } from './site.ts';

const control = (value: string | string[]) => says({ 'Cache-Control': value });

describeBySeconds('RFC 9111, section 5.2.2: the directives of a response', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  const isStoredWith = (value: string | string[]) => isStored(url(), {}, control(value));

  /** The lifetime of the response in seconds, to within one. */
  async function lifetimeOf(value: string | string[]): Promise<number> {
    const { ask, pass, runs } = await site(url(), {}, control(value));
    await ask();
    for (let age = 0; age <= 120; age += 10) {
      await ask();
      if (runs() > 1) return age;
      await pass(10_000);
    }
    return Number.POSITIVE_INFINITY;
  }

  it('RFC 9111, section 5.2.2.1: max-age is the lifetime', async () => {
    expect(await lifetimeOf('max-age=30')).toBe(30);
    expect(await isStoredWith('max-age=0')).toBe(false);
    expect(await isStoredWith('max-age=99999999999999999999')).toBe(true);
  });

  it('RFC 9111, section 5.2.2.10: s-maxage takes precedence over max-age', async () => {
    expect(await lifetimeOf('max-age=10, s-maxage=30')).toBe(30);
    expect(await isStoredWith('max-age=60, s-maxage=0')).toBe(false);
    expect(await isStoredWith('max-age=0, s-maxage=60')).toBe(true);
    expect(await isStoredWith('max-age=60, s-maxage=soon'), 'and when it cannot be read').toBe(false);
  });

  it.each(['must-revalidate', 'proxy-revalidate', 'public', 'no-transform', 'immutable', 'x-own="a, b"'])(
    'RFC 9111, section 5.2.2: a response with %s and max-age is stored',
    async (directive) => {
      expect(await isStoredWith(`${directive}, max-age=60`)).toBe(true);
      expect(await isStoredWith(`max-age=60, ${directive}`)).toBe(true);
    },
  );

  it.each(['no-store', 'private', 'no-cache'])(
    'RFC 9111, section 5.2.2: a response with %s is not stored even with other directives or a ttl',
    async (word) => {
      for (const value of [
        ...[`${word}, public, s-maxage=60`, `max-age=60,${word.toUpperCase()}`, `max-age=60, ${word}="?"`],
        ...[
          `max-age=60, ${word}=""`,
          `max-age=60, ${word}="`,
          `max-age=60, a="b, ${word}`,
          `, ,${word} ,max-age=60`,
        ],
      ]) {
        expect(await isStoredWith(value), value).toBe(false);
        expect(await isStored(url(), { ttl: '1m' }, control(value)), `${value} with a ttl`).toBe(false);
      }
      expect(await isStoredWith(['max-age=60', word]), 'on a line of its own').toBe(false);
    },
  );

  it.each(['no-store', 'private', 'no-cache'])(
    'RFC 9111, section 5.2: a response with %s in a quoted argument is stored',
    async (word) => {
      expect(await isStoredWith(`max-age=60, x="${word}"`)).toBe(true);
      expect(await isStoredWith(`max-age=60, x="\\", ${word}"`)).toBe(true);
    },
  );

  describe.each(['private', 'no-cache'])(
    'RFC 9111, sections 5.2.2.4 and 5.2.2.7: %s with field names',
    (word) => {
      const fields = { 'X-User': 'ann', 'X-Other': 'kept', Link: '</a>' };

      it.each<[string, Record<string, string | string[]>, string | undefined]>([
        ['without a ttl', { 'Cache-Control': `max-age=60, ${word}="X-User, link"` }, undefined],
        [
          'in another case',
          { 'Cache-Control': `max-age=60, ${word.toUpperCase()}="x-user,LINK"` },
          undefined,
        ],
        [
          'on several lines',
          { 'Cache-Control': [`max-age=60, ${word}="x-user"`, `${word}="link"`] },
          undefined,
        ],
        ['with a ttl', { 'Cache-Control': `${word}="X-User, link"` }, '1m'],
        [
          'with a ttl, beside a targeted field',
          { 'Cache-Control': `${word}="X-User, link"`, 'CDN-Cache-Control': 'max-age=60' },
          '1m',
        ],
        ['in a targeted field', { 'CDN-Cache-Control': `max-age=60, ${word}="x-user, link"` }, undefined],
      ])('a response is stored without the named fields, %s', async (_, headers, ttl) => {
        const options = ttl === undefined ? {} : ({ ttl: '1m' } as const);
        const { ask, runs } = await site(url(), options, says({ ...fields, ...headers }));
        const miss = await ask();
        expect(miss.headers).toMatchObject({ 'x-user': 'ann', 'x-other': 'kept', link: '</a>' });
        const hit = await ask();
        expect(runs()).toBe(1);
        expect(hit.headers['x-other']).toBe('kept');
        expect([hit.headers['x-user'], hit.headers.link]).toEqual([undefined, undefined]);
      });
    },
  );

  it('RFC 9111, section 5.2.2.4: private without field names applies to the whole response, even beside private with field names', async () => {
    expect(await isStoredWith('max-age=60, private="x-user", private')).toBe(false);
    expect(await isStoredWith('max-age=60, no-cache="x-user, not a name"')).toBe(false);
  });

  it.each(['soon', '-1', '1.5', '6 0', '"6o"', '', '+60', '0x3c'])(
    'RFC 9111, section 4.2.1: a max-age or s-maxage of %j is invalid',
    async (value) => {
      expect(await isStoredWith(`max-age=${value}`)).toBe(false);
      expect(await isStoredWith(`s-maxage=${value}, max-age=60`)).toBe(false);
    },
  );

  it('RFC 9111, section 5.2: an argument as a token and as a quoted string are equal', async () => {
    expect(await isStoredWith('max-age="60"')).toBe(true);
    expect(await isStoredWith('MAX-AGE="6\\0"')).toBe(true);
    expect(await lifetimeOf('max-age="30"')).toBe(30);
  });

  it('RFC 9111, section 4.2.1: a response with two different values of max-age is not stored, and with two equal ones is stored', async () => {
    expect(await isStoredWith('max-age=60, max-age=0')).toBe(false);
    expect(await isStoredWith(['max-age=60', 'max-age=61'])).toBe(false);
    expect(await isStoredWith('max-age=60, max-age="60"')).toBe(true);
  });

  it('RFC 9111, section 5.2.3: a response with unknown directives is stored as if they were absent', async () => {
    expect(await isStoredWith('community="UCI", max-age=60')).toBe(true);
    expect(await isStoredWith('community=UCI')).toBe(false);
  });

  it('with a ttl, the lifetime in the response is ignored', async () => {
    for (const value of ['max-age=0', 's-maxage=0', 'max-age=soon', 'public']) {
      expect(await isStored(url(), { ttl: '1m' }, control(value)), value).toBe(true);
    }
    const { ask, pass, runs } = await site(url(), { ttl: '20s' }, control('max-age=1'));
    await ask();
    await pass(19_000);
    expect((await ask()).headers.age).toBe('19');
    await pass(1_000);
    await ask();
    expect(runs()).toBe(2);
  });

  it('a `ttl` function that returns false stores nothing', async () => {
    const ttl: (req: { url: string }) => '1m' | false = ({ url }) => (url === '/no' ? false : '1m');
    const { ask, runs, skipped } = await site(url(), { ttl }, says({}));
    for (const path of ['/yes', '/yes', '/no', '/no']) await ask(path);
    expect(runs()).toBe(3);
    expect(new Set(skipped.map(({ reason }) => reason))).toEqual(new Set(['no-lifetime']));
  });
});
