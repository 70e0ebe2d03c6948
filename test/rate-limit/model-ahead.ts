import { type ExpectedReply, type ModelledPolicy, resetMs, waitMs } from './model.ts';

/*
 * The model of requests that wait, and of batches that a process takes: units that are charged before they are used. See
 * model.ts for the algorithms.
 */

/**
 * Units are granted for the first moment at which they fit under all policies and at which no units are granted for a
 * later moment, if that is within `most` ms. Until that moment, a bucket must not gain tokens that it could not hold
 * after it: its refill until then is given up.
 */
export function expectWait(
  policies: readonly ModelledPolicy[],
  time: bigint,
  cost: bigint,
  most: bigint,
): ExpectedReply[] {
  const waits = policies.map(({ model, limit }) => {
    const wait = waitMs(model, time, limit, cost);
    const granted = model.grantedUntil(time) - time;
    return wait >= 0n && granted > wait ? granted : wait;
  });
  const fits = waits.map((wait) => wait >= 0n && wait <= most);
  const longest = waits.reduce((one, other) => (one > other ? one : other), 0n);
  const at = time + longest;
  const charges = policies.map(({ model, limit }) => {
    if (fits.includes(false) || cost === 0n) {
      model.visit(time);
      return { stamp: 0n, position: 0n };
    }
    if (longest > 0n) model.skipTo(time, at);
    return model.charge(time, limit, cost, false, at);
  });
  return policies.map(({ model, limit }, index) => ({
    allowed: fits[index] === true,
    used: Number(model.used(time)),
    waitMs: Number(waits[index]),
    resetMs: Number(resetMs(model, time, limit)),
    stamp: Number(charges[index]?.stamp),
    position: Number(charges[index]?.position),
    found: 'fine',
  }));
}

/** Takes the units that are left, at least `least` and at most `most`, to be used within the next `hold` ms. */
export function expectReserve(
  policies: readonly ModelledPolicy[],
  time: bigint,
  least: bigint,
  { most, hold }: { readonly most: bigint; readonly hold: bigint },
): { readonly units: number; readonly replies: ExpectedReply[] } {
  const waits = policies.map(({ model, limit }) => waitMs(model, time, limit, least));
  const left = policies.map(({ model, limit }) => limit - model.used(time));
  const isAllowed = waits.every((wait) => wait === 0n);
  const units = isAllowed ? left.reduce((one, other) => (one < other ? one : other), most) : 0n;
  const charges = policies.map(({ model, limit }) => {
    if (units > 0n) return model.charge(time, limit, units, false, time + hold);
    model.visit(time);
    return { stamp: 0n, position: 0n };
  });
  const replies = policies.map(({ model, limit }, index) => ({
    allowed: waits[index] === 0n,
    used: Number(model.used(time)),
    waitMs: Number(waits[index]),
    resetMs: Number(resetMs(model, time, limit)),
    stamp: Number(charges[index]?.stamp),
    position: Number(charges[index]?.position),
    found: 'fine' as const,
  }));
  return { units: Number(units), replies };
}
