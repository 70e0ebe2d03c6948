import type { LockKeys } from '../base/keys.ts';
import type { OpenWork } from '../base/open-work.ts';
import type { Engine } from '../engine/port.ts';
import { insist } from '../waiting/insist.ts';
import { type LockReleaseArgs, lockRelease } from './operations/release.ts';

/**
 * Takes back what nobody waits for or holds any more, and what may be there all the same: a grant or a place in the line
 * that came after we had given up on it, a release that was not heard. Tries until Redis has answered or the lease has
 * ended anyway, and the wait.
 */
export async function undo(
  { engine, work }: { readonly engine: Engine; readonly work: OpenWork },
  keys: LockKeys,
  ask: LockReleaseArgs,
  leaseMs: number,
): Promise<void> {
  // Who closes waits for one try.
  const isTried = work.begin();
  await insist(
    () => engine.run(lockRelease, [keys.lock, keys.line], ask).finally(isTried),
    Math.max(leaseMs, ask.waitMs),
  );
}
