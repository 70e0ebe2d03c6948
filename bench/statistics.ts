/** A value with its spread: the median of the rounds, and the middle half of them. */
export interface Spread {
  readonly median: number;
  readonly from: number;
  readonly to: number;
}

export function spreadOf(values: Iterable<number>): Spread {
  const sorted = Float64Array.from(values).sort();
  return { median: percentile(sorted, 0.5), from: percentile(sorted, 0.25), to: percentile(sorted, 0.75) };
}

/** The share of sorted values, 0 to 1, with linear interpolation; NaN if there are none. */
export function percentile(sorted: Float64Array, share: number): number {
  const at = share * (sorted.length - 1);
  const below = sorted[Math.floor(at)] ?? Number.NaN;
  const above = sorted[Math.ceil(at)] ?? Number.NaN;
  return below + (above - below) * (at - Math.floor(at));
}
