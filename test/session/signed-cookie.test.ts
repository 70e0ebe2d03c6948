import { expect, it } from 'vitest';
import { Keys } from '../../src/base/keys.ts';
import type { Req } from '../../src/http/middleware.ts';
import type { Secrets } from '../../src/session/secret.ts';
import { SignedCookies } from '../../src/session/signed-cookie.ts';

/** Counts the hashed ids: each verified cookie that is not remembered costs one. */
class CountingKeys extends Keys {
  hashed = 0;

  override sessionNames(id: string): ReturnType<Keys['sessionNames']> {
    this.hashed++;
    return super.sessionNames(id);
  }
}

function cookiesWith(...secrets: Secrets) {
  const keys = new CountingKeys('kit');
  const cookies = new SignedCookies({ name: 'sid', secrets, keys });
  const idsIn = (cookie: string) => cookies.idsOf({ headers: { cookie } } as Req).map(({ id }) => id);
  return { cookies, keys, idsIn, value: (id: string) => encodeURIComponent(cookies.valueOf(id)) };
}

it('a cookie that was verified is not verified again', () => {
  const { idsIn, keys, value } = cookiesWith('the secret');
  for (let time = 0; time < 3; time++) expect(idsIn(`a=1; sid=${value('ann')}; b=2`)).toEqual(['ann']);
  expect(keys.hashed).toBe(1);
});

it('the handle and the key of a remembered cookie are those of its session', () => {
  const { cookies, keys, value } = cookiesWith('the secret');
  const req = { headers: { cookie: `sid=${value('ann')}` } } as Req;
  for (let time = 0; time < 2; time++) {
    expect(cookies.idsOf(req)).toEqual([{ id: 'ann', ...new Keys('kit').sessionNames('ann') }]);
  }
  expect(keys.hashed).toBe(1);
});

it('a cookie without a valid signature is never accepted, however often it is sent and whatever was verified', () => {
  const { idsIn, keys, value } = cookiesWith('the secret');
  const valid = value('ann');
  const forged = [
    `${valid.slice(0, -1)}${valid.endsWith('A') ? 'B' : 'A'}`,
    valid.replace('ann', 'bob'),
    valid.slice(0, -1),
    `${valid}A`,
    's%3Aann',
    'ann',
    '',
    cookiesWith('another secret').value('ann'),
  ];
  for (const order of [forged, [valid, ...forged], forged]) {
    for (const cookie of order) expect(idsIn(`sid=${cookie}`)).toEqual(cookie === valid ? ['ann'] : []);
  }
  expect(keys.hashed).toBe(1);
});

it('a middleware that no longer has a secret does not accept its cookies, although another has remembered them', () => {
  const before = cookiesWith('an old secret');
  const during = cookiesWith('a new secret', 'an old secret');
  const after = cookiesWith('a new secret');
  const old = `sid=${before.value('ann')}`;
  for (const { idsIn } of [before, during])
    for (let time = 0; time < 2; time++) expect(idsIn(old)).toEqual(['ann']);
  expect(after.idsIn(old)).toEqual([]);
  expect(after.idsIn(`sid=${during.value('ann')}`)).toEqual(['ann']);
});

it('a cookie whose name ends with the name of the session cookie is another cookie', () => {
  const { idsIn, value } = cookiesWith('the secret');
  expect(idsIn(`xsid=${value('ann')}`)).toEqual([]);
  expect(idsIn(`a=sid=${value('ann')}`)).toEqual([]);
  expect(idsIn(`xsid=${value('ann')}; sid=${value('bob')}`)).toEqual(['bob']);
  expect(idsIn(`a=1;\t sid=${value('bob')}`)).toEqual(['bob']);
  expect(idsIn(`\xa0sid=${value('ann')}; sid=${value('bob')}`)).toEqual(['bob']);
  expect(idsIn(`sid="${value('bob')}"`)).toEqual(['bob']);
});

it('a request with several cookies has the ids of those that have a valid signature, each once', () => {
  const { idsIn, value } = cookiesWith('the secret');
  const header = ['x', value('ann'), value('bob'), value('ann'), 's%3Aeve.x'].map(
    (cookie) => `sid=${cookie}`,
  );
  for (let time = 0; time < 2; time++) expect(idsIn(header.join('; '))).toEqual(['ann', 'bob']);
});

it('the remembered cookies have a bounded size, and the least recently used are forgotten', () => {
  const { idsIn, keys, value } = cookiesWith('the secret');
  const first = `sid=${value('first')}`;
  const last = `sid=${value('last')}`;
  idsIn(first);
  // With these ids, a cookie takes more than 4 kB.
  for (let index = 0; index < 2_100; index++) idsIn(`sid=${value(`${index} ${'x'.repeat(1_000)}`)}`);
  idsIn(last);
  keys.hashed = 0;
  idsIn(last);
  expect(keys.hashed).toBe(0);
  idsIn(first);
  expect(keys.hashed).toBe(1);
});

it('an id may contain dots', () => {
  const { idsIn, value } = cookiesWith('the secret');
  expect(idsIn(`sid=${value('a.b.c')}`)).toEqual(['a.b.c']);
});
