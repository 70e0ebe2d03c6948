import { describe, expect, it } from 'vitest';
import {
  type CountRecord,
  countViolations,
  type LimitCallRecord,
  limitViolations,
  lockViolations,
  orderViolations,
  purgeViolations,
  type SessionStepRecord,
  sessionViolations,
} from './check-histories.ts';

describe('The check of a history of locks', () => {
  const grant = (fence: number, from: number, heldUntil: number, key = 'a') => ({
    key,
    fence,
    from,
    heldUntil,
  });

  it('holders that follow one another are right, also if one of them lost its lock', () => {
    expect(
      lockViolations([grant(3, 20, 30), grant(1, 0, 10), grant(2, 10, 10), grant(1, 5, 15, 'b')]),
    ).toEqual([]);
  });

  it('two holders at once are a violation', () => {
    expect(lockViolations([grant(1, 0, 10), grant(2, 9, 20)])).toEqual([
      'lock a: the holders of 1 and 2 overlap',
    ]);
  });

  it('a holder that is inside of a long one is a violation, and so is the next one', () => {
    expect(lockViolations([grant(1, 0, 100), grant(2, 10, 20), grant(3, 30, 40)])).toHaveLength(2);
  });

  it('a token that is used twice, or is lower than the one before, is a violation', () => {
    expect(lockViolations([grant(1, 0, 10), grant(1, 20, 30)])).toEqual([
      'lock a: the token 1 was granted twice',
    ]);
    expect(lockViolations([grant(5, 0, 10), grant(4, 20, 30)])).toEqual(['lock a: the token 4 follows 5']);
  });
});

describe('The check of a history of a limit', () => {
  const LIMIT = { limit: 2, windowMs: 100 };
  const call = (
    at: number,
    outcome: LimitCallRecord['outcome'] = 'allowed',
    tookMs = 0,
  ): LimitCallRecord => ({
    id: 'ann',
    before: at,
    after: at + tookMs,
    outcome,
  });

  it('calls within the limit, and refusals above it, are right', () => {
    const calls = [call(0), call(10), call(50, 'refused'), call(101), call(105, 'refused'), call(112)];
    expect(limitViolations(calls, LIMIT)).toEqual([]);
  });

  it('a call too many within a window is a violation, wherever the window begins', () => {
    expect(limitViolations([call(0), call(60), call(90)], LIMIT)).toHaveLength(1);
    expect(limitViolations([call(0), call(95), call(150), call(190)], LIMIT)).toHaveLength(1);
  });

  it('a call that may have been counted outside of the window is no violation', () => {
    expect(limitViolations([call(0), call(60), call(90, 'allowed', 20)], LIMIT)).toEqual([]);
    expect(limitViolations([call(0), call(60), call(90, 'unknown')], LIMIT)).toEqual([]);
  });

  it('a refusal below the limit is a violation, unless a lost call may have been counted', () => {
    expect(limitViolations([call(0), call(50, 'refused')], LIMIT)).toEqual([
      'limit ann: a call was refused after 1 of 2',
    ]);
    expect(limitViolations([call(0), call(20, 'unknown'), call(50, 'refused')], LIMIT)).toEqual([]);
    expect(limitViolations([call(0), call(10), call(250, 'refused')], LIMIT)).toHaveLength(1);
  });

  it('the limits of two ids are apart', () => {
    const others = [call(1), call(2)].map((each) => ({ ...each, id: 'ben' }));
    expect(limitViolations([call(0), call(3), ...others], LIMIT)).toEqual([]);
  });
});

describe('The check of a history of idempotent requests', () => {
  const run = (number: number) => ({ key: 'k', kind: 'run', run: number }) as const;
  const answer = (number: number) => ({ key: 'k', kind: 'answer', body: `run ${number}` }) as const;

  it('one run with its responses is right', () => {
    expect(orderViolations([run(7), answer(7), answer(7)])).toEqual([]);
  });

  it('a second run and the response of another run are violations', () => {
    expect(orderViolations([run(7), run(8)])).toEqual(['order k: the handler ran 2 times']);
    expect(orderViolations([run(7), answer(8)])).toHaveLength(1);
    expect(orderViolations([answer(8)])).toHaveLength(1);
  });
});

describe('The check of a history of sessions', () => {
  const count = (seen?: number, isAnswered = true): SessionStepRecord => ({
    session: 's',
    kind: 'count',
    isAnswered,
    seen,
  });
  const logout = (isAnswered = true): SessionStepRecord => ({ session: 's', kind: 'logout', isAnswered });

  it('a session that keeps what was acknowledged is right', () => {
    expect(sessionViolations([count(0), count(1), count(2), logout(), count(undefined)])).toEqual([]);
  });

  it('a change without a response may be kept or not', () => {
    expect(sessionViolations([count(0), count(undefined, false), count(1)])).toEqual([]);
    expect(sessionViolations([count(0), count(undefined, false), count(2)])).toEqual([]);
    expect(sessionViolations([count(0), count(undefined, false), count(3)])).toHaveLength(1);
  });

  it('a change that is lost, a session that is lost, and one that is used after its end are violations', () => {
    expect(sessionViolations([count(0), count(1), count(1)])).toEqual([
      'session s: it has 1, and should have 2 to 2',
    ]);
    expect(sessionViolations([count(0), count(undefined)])).toEqual(['session s: it was lost after 1']);
    expect(sessionViolations([count(0), logout(), count(1)])).toEqual([
      'session s: it was used after its end',
    ]);
  });

  it('a session may have ended or not if the response to its logout was lost', () => {
    expect(sessionViolations([count(0), logout(false), count(undefined)])).toEqual([]);
    expect(sessionViolations([count(0), logout(false), count(1)])).toEqual([]);
    expect(sessionViolations([count(0), logout(false), count(undefined), count(1)])).toHaveLength(1);
  });
});

describe('The check of a history of purges', () => {
  const purged = (at: number, version: number) => ({ key: 'v', kind: 'purged', at, version }) as const;
  const read = (at: number, version: number) => ({ key: 'v', kind: 'read', at, version }) as const;

  it('a read that began before the purge may have the old value', () => {
    expect(purgeViolations([read(1, 0), purged(2, 1), read(3, 1), read(4, 2)])).toEqual([]);
  });

  it('a read after a purge with a value from before it is a violation', () => {
    expect(purgeViolations([purged(2, 1), read(3, 0)])).toEqual([
      'value v: version 0 was read after the purge of all before 1',
    ]);
  });
});

describe('The check of a history of counters', () => {
  const done = (sum: number, counter = 'a'): CountRecord => ({ counter, outcome: 'done', sum });

  it('sums that are all different are right, in any order and with gaps of calls without a reply', () => {
    const unknown = { counter: 'a', outcome: 'unknown' } as const;
    expect(countViolations([done(2), unknown, done(1), done(4), done(1, 'b')])).toEqual([]);
  });

  it('a sum that two calls had is a violation, and so is a sum above the number of calls', () => {
    expect(countViolations([done(1), done(2), done(2)])).toEqual(['counter a: two calls had the sum 2']);
    expect(countViolations([done(1), { counter: 'a', outcome: 'refused' }, done(3)])).toEqual([
      'counter a: it reached 3 with 2 calls',
    ]);
  });
});
