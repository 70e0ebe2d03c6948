import { describe, expect, it } from 'vitest';
import { Renewal } from '../../src/waiting/renewal.ts';
import { passTime, stopTime } from '../support/time.ts';

/** A renewal whose commands have these outcomes, in turn; an Error rejects. */
function renewalOf(outcomes: readonly (boolean | Error)[]) {
  stopTime();
  const startedAt = performance.now();
  const renewals: number[] = [];
  const failures: unknown[] = [];
  let losses = 0;
  const renewal = new Renewal({
    renew: async () => {
      renewals.push(performance.now() - startedAt);
      const outcome = outcomes[renewals.length - 1] ?? true;
      if (typeof outcome === 'boolean') return outcome;
      throw outcome;
    },
    lost: () => losses++,
    failed: (error) => failures.push(error),
  });
  return { renewal, renewals, failures, losses: () => losses };
}

describe('A renewal', () => {
  it('a lease is renewed whenever a third of it has passed', async () => {
    const { renewal, renewals } = renewalOf([]);
    renewal.start(300);
    await passTime(350);
    expect(renewals).toEqual([100, 200, 300]);
    renewal.stop();
  });

  it('the first renewal is due a third of the lease after the lease began', async () => {
    const { renewal, renewals } = renewalOf([]);
    renewal.start(300, performance.now() - 60);
    await passTime(50);
    expect(renewals).toEqual([40]);
    renewal.stop();
  });

  it('a failed renewal is reported and retried after a tenth of the lease', async () => {
    const failure = new Error('on purpose');
    const { renewal, renewals, failures } = renewalOf([failure, failure]);
    renewal.start(300);
    await passTime(170);
    expect([renewals, failures]).toEqual([
      [100, 130, 160],
      [failure, failure],
    ]);
    renewal.stop();
  });

  it('a lost lease is not renewed again', async () => {
    const { renewal, renewals, losses } = renewalOf([true, false]);
    renewal.start(300);
    await passTime(1_000);
    expect([renewals, losses()]).toEqual([[100, 200], 1]);
  });

  it('the outcome of a renewal that is stopped in flight is ignored', async () => {
    stopTime();
    const outcomes: string[] = [];
    const renewal = new Renewal({
      renew: async () => {
        outcomes.push('sent');
        renewal.stop();
        return false;
      },
      lost: () => outcomes.push('lost'),
      failed: () => outcomes.push('failed'),
    });
    renewal.start(300);
    await passTime(1_000);
    expect(outcomes).toEqual(['sent']);
  });
});
