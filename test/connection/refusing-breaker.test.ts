import { expect, it, onTestFinished, vi } from 'vitest';
import { Breaker, type NodeRefusal } from '../../src/connection/breaker.ts';

const TIMEOUT_MS = 500;

/** A breaker of a node that refuses commands until `accept()`. */
function refusingNode(options: Partial<NodeRefusal> = {}) {
  let now = 0;
  const spy = vi.spyOn(performance, 'now').mockImplementation(() => now);
  onTestFinished(() => spy.mockRestore());
  const reported: (boolean | string)[] = [];
  let isRefusing = true;
  let replacements = 0;
  const breaker = new Breaker({
    timeoutMs: TIMEOUT_MS,
    probe: () => Promise.reject(new Error('a PING says nothing')),
    unanswered: () => undefined,
    changed: (isOpen) => reported.push(isOpen),
    refuses: (error) => reported.push(error?.message ?? 'accepts'),
  });
  onTestFinished(() => breaker.stop());
  const refusal: NodeRefusal = {
    error: new Error('READONLY'),
    isOutage: true,
    replace: () => replacements++,
    probe: () => (isRefusing ? Promise.reject(new Error('READONLY')) : Promise.resolve()),
    ...options,
  };
  return {
    breaker,
    reported,
    replacements: () => replacements,
    refuseAt(ms: number) {
      now = ms;
      breaker.refused(refusal);
    },
    accept() {
      isRefusing = false;
    },
    async probe() {
      breaker.probeNow();
      await new Promise(setImmediate);
    },
  };
}

it('a breaker opens when its node has refused commands for half of the timeout', () => {
  const { breaker, reported, refuseAt } = refusingNode();
  refuseAt(1_000);
  refuseAt(1_249);
  expect([breaker.isOpen, breaker.refusal?.message]).toEqual([false, 'READONLY']);
  refuseAt(1_250);
  expect(breaker.isOpen).toBe(true);
  expect(reported, 'each once').toEqual(['READONLY', true]);
});

it('a refusal ends with a probe that runs, and not with the answer to another command', async () => {
  const { breaker, reported, refuseAt, accept, probe } = refusingNode();
  refuseAt(0);
  refuseAt(250);
  breaker.succeeded();
  await probe();
  expect([breaker.isOpen, breaker.refusal?.message]).toEqual([true, 'READONLY']);
  accept();
  await probe();
  expect([breaker.isOpen, breaker.refusal]).toEqual([false, undefined]);
  expect(reported).toEqual(['READONLY', true, false, 'accepts']);
});

it('a breaker stays closed while its node refuses writes only', async () => {
  const { breaker, reported, refuseAt, accept, probe } = refusingNode({ isOutage: false });
  for (const ms of [0, 1_000, 60_000]) refuseAt(ms);
  expect(breaker.isOpen).toBe(false);
  accept();
  await probe();
  expect(reported).toEqual(['READONLY', 'accepts']);
});

it('a node that refuses commands is replaced at most five times a second', () => {
  const { refuseAt, replacements } = refusingNode();
  for (let ms = 0; ms < 1_000; ms += 10) refuseAt(ms);
  expect(replacements()).toBe(5);
});
