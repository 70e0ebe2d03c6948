import { expect, it } from 'vitest';
import { Breaker } from '../../src/connection/breaker.ts';

it('a breaker that was stopped neither opens nor probes for commands that fail afterwards', () => {
  const calls: string[] = [];
  const breaker = new Breaker({
    timeoutMs: 100,
    probe: () => {
      calls.push('probe');
      return undefined;
    },
    unanswered: () => calls.push('unanswered'),
    changed: () => calls.push('changed'),
    refuses: () => calls.push('refuses'),
  });
  breaker.failed('a');
  breaker.stop();
  for (let command = 0; command < 3; command++) breaker.failed('a');
  const refusal = { error: new Error('READONLY'), isOutage: true, replace: () => calls.push('replace') };
  breaker.refused({ ...refusal, probe: () => Promise.resolve() });
  expect([calls, breaker.isOpen, breaker.refusal]).toEqual([[], false, undefined]);
});
