import { insist } from '../engine/insist.ts';
import type { Engine } from '../engine/port.ts';
import { lockRelease } from '../operations/lock-release.ts';

/**
 * Frees a lock that is or may be ours and that nobody holds a handle of any more: its acquire was granted after we had
 * given up on it, or its release was not heard. Tries until Redis has answered or the lease has ended anyway.
 */
export async function undo(engine: Engine, key: string, token: string, leaseMs: number): Promise<void> {
  await insist(() => engine.run(lockRelease, [key], { token }), leaseMs);
}
