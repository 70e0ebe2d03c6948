import { getEventListeners } from 'node:events';
import { expect, it } from 'vitest';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { until } from '../support/until.ts';

const WAITERS = 30;

describeOnBothEngines('many waiters with one AbortSignal', (url) => {
  /** Starts waiters for one held lock, all with the same signal, and collects the warnings of the process. */
  async function waiting() {
    const { locks } = kitForTest({ url: url() });
    const held = await locks.acquire('a');
    const controller = new AbortController();
    const { signal } = controller;
    const warnings: string[] = [];
    const note = ({ name }: Error) => void warnings.push(name);
    process.on('warning', note);
    const waiters = Array.from({ length: WAITERS }, () =>
      locks.acquire('a', { wait: '20s', signal }).then(
        (lock) => lock.release(),
        (error: unknown) => error,
      ),
    );
    await until('all wait', async () => (await locks.inspect('a')).waiters === WAITERS);
    // Node emits a warning in the next tick.
    await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', note);
    return { held, controller, warnings, waiters };
  }

  it('many waiters with one signal cause no leak warning, and all give up when the signal aborts', async () => {
    const { controller, warnings, waiters } = await waiting();
    expect(warnings).toEqual([]);
    const listeners = () => getEventListeners(controller.signal, 'abort').length;
    expect(listeners()).toBeLessThanOrEqual(1);
    // No listener is registered while all waiters ask again, as they do when the subscription begins.
    await until('the waiters share a listener', () => listeners() === 1);
    const reason = new Error('on purpose');
    controller.abort(reason);
    expect(await Promise.all(waiters)).toEqual(Array(WAITERS).fill(reason));
  });

  it('many waiters with one signal all get their turn, and leave no listener behind', async () => {
    const { held, controller, waiters } = await waiting();
    await held.release();
    expect(await Promise.all(waiters)).toEqual(Array(WAITERS).fill(true));
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
  });
});
