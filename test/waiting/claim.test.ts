import { describe, expect, it } from 'vitest';
import { ConnectionError, closedError, StoreError } from '../../src/base/errors.ts';
import { OpenWork } from '../../src/base/open-work.ts';
import { type Claim, type ClaimReply, makeClaim } from '../../src/waiting/claim.ts';
import { WakeUps } from '../../src/waiting/wake-ups.ts';
import { until } from '../support/until.ts';

const QUEUED: ClaimReply<string> = { leftMs: 20, needsUndo: true };
const GRANTED: ClaimReply<string> = { granted: 'slot', leftMs: 20, needsUndo: true };

function timeout(): StoreError {
  return new StoreError('ERR_REDIS_KIT_TIMEOUT', 'no reply');
}

/** Makes a claim that gets these replies, in turn; an Error rejects. */
function claimWith(
  replies: readonly (ClaimReply<string> | Error)[],
  { waitMs = 10_000, ...options }: Partial<Claim<string>> = {},
) {
  const closing = new AbortController();
  const reported: unknown[] = [];
  let asked = 0;
  let undone = 0;
  const result = makeClaim<string>(
    {
      ask: async () => {
        const reply = replies[asked++] ?? QUEUED;
        if (reply instanceof Error) throw reply;
        return reply;
      },
      undo: async () => void undone++,
      undoForMs: 1_000,
      waitMs,
      wakeUp: waitMs > 0 ? new WakeUps().expect('key') : undefined,
      failed: (error) => reported.push(error),
      ...options,
    },
    { closing: closing.signal, work: new OpenWork() },
  );
  return { result, closing, reported, asked: () => asked, undone: () => undone };
}

describe('A claim', () => {
  it('a claim that is granted is not undone', async () => {
    const { result, undone } = claimWith([QUEUED, GRANTED]);
    expect(await result).toEqual({ granted: 'slot', leftMs: 20, hasWaited: true });
    expect(undone()).toBe(0);
  });

  it('a claim without a wait asks once', async () => {
    const { result, asked } = claimWith([{ leftMs: 20, needsUndo: false }], { waitMs: 0 });
    expect(await result).toMatchObject({ granted: undefined, hasWaited: false });
    expect(asked()).toBe(1);
  });

  it('a claim that is still queued at the end of its wait is undone', async () => {
    const { result, undone } = claimWith([], { waitMs: 50 });
    expect(await result).toMatchObject({ granted: undefined, hasWaited: true });
    await until('the claim is undone', () => undone() === 1);
  });

  it('a claim rejects with the first failure, and is undone only if the command may have run', async () => {
    const unreachable = claimWith([new ConnectionError('no connection')]);
    await expect(unreachable.result).rejects.toThrow(ConnectionError);
    const unknown = claimWith([timeout()]);
    await expect(unknown.result).rejects.toThrow('no reply');
    await until('the claim is undone', () => unknown.undone() === 1);
    expect(unreachable.undone()).toBe(0);
  });

  it('a waiter reports a failure of the store and keeps waiting', async () => {
    const { result, reported } = claimWith([QUEUED, timeout(), GRANTED]);
    expect((await result).granted).toBe('slot');
    expect(reported).toHaveLength(1);
  });

  it('a waiter without a `failed` callback rejects with a failure of the store', async () => {
    const { result } = claimWith([QUEUED, timeout(), GRANTED], { failed: undefined });
    await expect(result).rejects.toThrow('no reply');
  });

  it('a waiter rejects when its signal aborts or the kit closes', async () => {
    const left = claimWith([], { signal: AbortSignal.timeout(30) });
    await expect(left.result).rejects.toThrow('timeout');
    const closed = claimWith([]);
    closed.closing.abort();
    await expect(closed.result).rejects.toThrow(closedError().message);
    await until('both claims are undone', () => left.undone() + closed.undone() === 2);
  });
});
