import { beforeAll, describe, expect, it } from 'vitest';
import { describeBySeconds } from '../../support/kits.ts';
import { passTime } from '../../support/time.ts';
import { loadCacheScripts } from '../scripts.ts';
import { dateIn, isStored, lastStatus, says, site } from './site.ts';

const MINUTE = 60_000;

const near = (seconds: number) => (left: number) => Math.abs(left - seconds) <= 3;

/** The obsolete forms of a date (RFC 9110, section 5.6.7). */
function rfc850(date: Date): string {
  const day = date.toLocaleDateString('en', { weekday: 'long', timeZone: 'UTC' });
  const [, number, month, year = '', time] = date.toUTCString().split(' ');
  return `${day}, ${number}-${month}-${year.slice(2)} ${time} GMT`;
}

function asctime(date: Date): string {
  const [day = '', number, month, year, time] = date.toUTCString().split(' ');
  return `${day.slice(0, 3)} ${month} ${String(Number(number)).padStart(2)} ${time} ${year}`;
}

describeBySeconds('RFC 9111, section 4.2: the lifetime of a response', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  const stored = (headers: Parameters<typeof says>[0]) => isStored(url(), {}, says(headers));

  /** The Age and the remaining freshness of a response that was just stored. */
  async function agesOf(headers: Parameters<typeof says>[0], options = {}) {
    const { ask, pass, runs } = await site(url(), options, says(headers));
    await ask();
    const hit = await ask();
    expect(runs()).toBe(1);
    const age = Number(hit.headers.age);
    const left = Number(/ttl=(\d+)/.exec(lastStatus(hit))?.[1]);
    return { ask, pass, runs, age, left };
  }

  describe('RFC 9111, section 4.2.1: the order of lifetimes', () => {
    it('the lifetime comes from s-maxage, max-age, Expires, and heuristics, in that order', async () => {
      const old = { 'Last-Modified': dateIn(-1_000_000) };
      const expires = { Expires: dateIn(5_000) };
      const maxAge = { 'Cache-Control': 'max-age=4000' };
      const both = { 'Cache-Control': 'max-age=4000, s-maxage=3000' };
      const options = { heuristics: true };
      expect((await agesOf({ ...old, ...expires, ...both }, options)).left).toSatisfy(near(3_000));
      expect((await agesOf({ ...old, ...expires, ...maxAge }, options)).left).toSatisfy(near(4_000));
      expect((await agesOf({ ...old, ...expires }, options)).left).toSatisfy(near(5_000));
      expect((await agesOf(old, options)).left).toSatisfy(near(86_400));
    });

    it('no lifetime of lower precedence is used when the first one has ended or is malformed', async () => {
      const expires = { Expires: dateIn(60) };
      expect(await stored({ ...expires, 'Cache-Control': 'max-age=0' })).toBe(false);
      expect(await stored({ ...expires, 'Cache-Control': 'max-age=x' })).toBe(false);
      expect(await stored({ ...expires, 'Cache-Control': 's-maxage=0, max-age=60' })).toBe(false);
    });
  });

  describe('RFC 9111, section 5.3: Expires', () => {
    it.each([
      ['IMF-fixdate', (date: Date) => date.toUTCString()],
      ['RFC 850', rfc850],
      ['asctime', asctime],
    ])('an Expires in the form of %s sets the lifetime', async (_, form) => {
      const { pass, ask, runs } = await agesOf({ Expires: form(new Date(Date.now() + 60_000)) });
      await pass(58_000);
      expect((await ask()).headers.age).toBe('58');
      await pass(3_000);
      await ask();
      expect(runs()).toBe(2);
    });

    it('the lifetime is the time from Date to Expires, not from the local time to Expires', async () => {
      const date = new Date(Date.now() - 40_000);
      const expires = new Date(date.getTime() + MINUTE);
      const { age, left } = await agesOf({ Date: date.toUTCString(), Expires: expires.toUTCString() });
      expect(age).toSatisfy((each: number) => each === 40 || each === 41);
      expect(left).toSatisfy((each: number) => each >= 17 && each <= 20);
    });

    it.each([
      ['is in the past', dateIn(-1)],
      ['is 0', '0'],
      ['is -1', '-1'],
      ['is no HTTP-date', '2040-01-01T00:00:00Z'],
      ['has another zone', dateIn(60).replace('GMT', 'CET')],
      ['is repeated', [dateIn(60), dateIn(60)]],
      ['is empty', ''],
    ])('a response is not stored when its Expires %s', async (_, expires) => {
      expect(await stored({ Expires: expires })).toBe(false);
    });

    it('a response whose Expires equals its Date is not stored', async () => {
      const date = dateIn(0);
      expect(await stored({ Date: date, Expires: date })).toBe(false);
    });
  });

  describe('RFC 9111, section 4.2.3: the age', () => {
    const control = { 'Cache-Control': 'max-age=100' };

    it('the age starts at 0 when the handler sets none, and grows with the clock', async () => {
      const { ask, pass, age, left, runs } = await agesOf(control);
      expect(age).toBe(0);
      expect(left).toSatisfy(near(100));
      await pass(1_500);
      expect((await ask()).headers.age).toBe('1');
      await pass(98_000);
      const last = await ask();
      expect([last.headers.age, lastStatus(last)]).toEqual(['99', 'redis-kit; hit; ttl=0']);
      await pass(600);
      await ask();
      expect(runs()).toBe(2);
    });

    it('the age starts at the value of Age, which shortens the remaining lifetime', async () => {
      const { ask, pass, age, left, runs } = await agesOf({ ...control, Age: 70 });
      expect(age).toBe(70);
      expect(left).toSatisfy(near(30));
      await pass(20_000);
      expect((await ask()).headers.age).toBe('90');
      await pass(10_000);
      await ask();
      expect(runs()).toBe(2);
    });

    it('the age starts at the time since Date if that is larger than Age', async () => {
      const apparent = await agesOf({ ...control, Date: dateIn(-50), Age: 20 });
      expect(apparent.age).toSatisfy((age: number) => age === 50 || age === 51);
      const corrected = await agesOf({ ...control, Date: dateIn(-20), Age: 50 });
      expect(corrected.age).toBe(50);
      const alone = await agesOf({ ...control, Date: dateIn(-30) });
      expect(alone.age).toSatisfy((age: number) => age === 30 || age === 31);
    });

    it('the age starts at 0 for a Date in the future or a malformed Date', async () => {
      expect((await agesOf({ ...control, Date: dateIn(3_600) })).age).toBe(0);
      expect((await agesOf({ ...control, Date: 'now' })).age).toBe(0);
    });

    it('the age of a response with Age includes the running time of its handler', async () => {
      const { ask, runs } = await site(url(), {}, async (_req, res) => {
        await passTime(1_050);
        res.setHeader('Cache-Control', 'max-age=100');
        res.setHeader('Age', '7');
        res.end('body');
      });
      await ask();
      expect((await ask()).headers.age).toBe('8');
      expect(runs()).toBe(1);
    });

    it.each([['x'], ['-5'], ['1.5'], [''], ['x, 50']])(
      'RFC 9111, section 5.1: an Age of %j is ignored',
      async (age) => {
        expect((await agesOf({ ...control, Age: age })).age).toBe(0);
      },
    );

    it('RFC 9111, section 5.1: the age starts at the first of several Age values', async () => {
      expect((await agesOf({ ...control, Age: '30, 60' })).age).toBe(30);
      expect((await agesOf({ ...control, Age: ['30', '60'] })).age).toBe(30);
    });

    it('a response whose age exceeds its lifetime is not stored', async () => {
      expect(await stored({ ...control, Age: 100 })).toBe(false);
      expect(await stored({ ...control, Date: dateIn(-101) })).toBe(false);
    });

    it('RFC 9111, section 5.1: a huge age is sent as 2147483647', async () => {
      const { ask } = await site(url(), { ttl: '1m' }, says({ Age: '9'.repeat(30) }));
      await ask();
      expect((await ask()).headers.age).toBe(String(2 ** 31 - 1));
    });

    it('with a ttl, the Age of a response does not shorten its lifetime', async () => {
      const { ask, pass, age, left, runs } = await agesOf({ ...control, Age: 500 }, { ttl: '1m' });
      expect(age).toBe(500);
      expect(left).toSatisfy(near(60));
      await pass(50_000);
      expect((await ask()).headers.age).toBe('550');
      expect(runs()).toBe(1);
    });
  });

  describe('RFC 9111, section 4.2.4: stale responses', () => {
    it('a stale response is not sent without a stale window', async () => {
      const { ask, pass, runs } = await agesOf({ 'Cache-Control': 'max-age=10' });
      await pass(10_000);
      expect((await ask()).headers.age).toBeUndefined();
      expect(runs()).toBe(2);
    });

    const allowing = 'stale-while-revalidate=60, stale-if-error=60';

    it.each(['must-revalidate', 'proxy-revalidate', 's-maxage=10'])(
      'a stale response with %s is never sent',
      async (directive) => {
        for (const first of ['max-age=10, ', `${allowing}, max-age=10, `]) {
          const { ask, pass, runs } = await site(
            url(),
            { staleWhileRevalidate: '1m', staleIfError: '1m' },
            (_req, res) => {
              res.setHeader('Cache-Control', `${first}${directive}`);
              res.status(runs() === 1 ? 200 : 503).end(String(runs()));
            },
          );
          await ask();
          await pass(11_000);
          const { status, text, headers } = await ask();
          expect([status, text, headers.age]).toEqual([503, '2', undefined]);
        }
      },
    );

    it('a response with must-revalidate is not sent after a soft purge', async () => {
      const { ask, kit } = await site(
        url(),
        {},
        says({ 'Cache-Control': `max-age=10, must-revalidate, ${allowing}` }),
      );
      await ask();
      expect((await ask()).headers.age).toBe('0');
      await kit.invalidate({ url: '/a', soft: true });
      expect((await ask()).headers.age).toBeUndefined();
    });

    it('with a ttl, must-revalidate and proxy-revalidate forbid stale responses, and s-maxage does not', async () => {
      for (const [directive, sent] of [
        ['must-revalidate', false],
        ['proxy-revalidate', false],
        ['s-maxage=5', true],
      ] as const) {
        const { ask, pass } = await site(
          url(),
          { ttl: '10s', staleWhileRevalidate: '1m' },
          says({ 'Cache-Control': directive, ETag: '"1"' }),
        );
        await ask();
        await pass(11_000);
        expect((await ask()).headers.age !== undefined, directive).toBe(sent);
      }
    });
  });
});
