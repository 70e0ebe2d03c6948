/*
 * Checks of histories that were recorded while faults were injected. Each function returns the violations that it finds,
 * as sentences. An outcome that is unknown, since its reply was lost, counts as either.
 */

/** A grant of a lock, by the steady clock of the holder. */
export interface LockGrantRecord {
  readonly key: string;
  readonly fence: number;
  /** When the holder received the grant. */
  readonly from: number;
  /** The last moment at which the holder found that it still had the lock. */
  readonly heldUntil: number;
}

/** Mutual exclusion, and fencing tokens that are unique and grow with each grant of a key. */
export function lockViolations(grants: readonly LockGrantRecord[]): readonly string[] {
  const violations: string[] = [];
  for (const [key, ofKey] of grouped(grants, (grant) => grant.key)) {
    const ordered = ofKey.toSorted((one, other) => one.from - other.from);
    const fences = new Set<number>();
    for (const { fence } of ordered) {
      if (fences.has(fence)) violations.push(`lock ${key}: the token ${fence} was granted twice`);
      fences.add(fence);
    }
    // A grant whose reply came late may have ended before its holder received it.
    const confirmed = ordered.filter(({ from, heldUntil }) => heldUntil > from);
    for (const [index, { fence }] of confirmed.entries()) {
      const before = confirmed[index - 1]?.fence ?? 0;
      if (fence < before) violations.push(`lock ${key}: the token ${fence} follows ${before}`);
    }
    let latest = ordered[0];
    for (const grant of ordered.slice(1)) {
      if (latest !== undefined && grant.from < latest.heldUntil && grant.heldUntil > grant.from) {
        violations.push(`lock ${key}: the holders of ${latest.fence} and ${grant.fence} overlap`);
      }
      if (latest === undefined || grant.heldUntil > latest.heldUntil) latest = grant;
    }
  }
  return violations;
}

/** A call of a limiter, by the steady clock of the caller: Redis decided between `before` and `after`. */
export interface LimitCallRecord {
  readonly id: string;
  readonly before: number;
  readonly after: number;
  readonly outcome: 'allowed' | 'refused' | 'unknown';
}

/** How much the clock of Redis, which counts whole milliseconds, may differ over a window. */
const CLOCK_ERROR_MS = 3;

/** A command whose reply was lost may still run this long after its call. */
const LONGEST_DELAY_MS = 10_000;

/** An exact sliding window: never more than `limit` in any window, and no refusal while fewer were allowed. */
export function limitViolations(
  calls: readonly LimitCallRecord[],
  { limit, windowMs }: { readonly limit: number; readonly windowMs: number },
): readonly string[] {
  const violations: string[] = [];
  for (const [id, ofId] of grouped(calls, (call) => call.id)) {
    const ordered = ofId.toSorted((one, other) => one.before - other.before);
    violations.push(
      ...excesses(id, ordered, limit, windowMs),
      ...needlessRefusals(id, ordered, limit, windowMs),
    );
  }
  return violations;
}

function excesses(
  id: string,
  ordered: readonly LimitCallRecord[],
  limit: number,
  windowMs: number,
): string[] {
  const allowed = ordered.filter(({ outcome }) => outcome === 'allowed');
  const violations: string[] = [];
  for (const [index, first] of allowed.entries()) {
    const end = first.before + windowMs - CLOCK_ERROR_MS;
    let count = 0;
    for (let at = index; at < allowed.length; at++) {
      const call = allowed[at];
      if (call === undefined || call.before > end) break;
      if (call.after <= end) count++;
    }
    if (count > limit) violations.push(`limit ${id}: ${count} calls were allowed within ${windowMs} ms`);
  }
  return violations;
}

function needlessRefusals(
  id: string,
  ordered: readonly LimitCallRecord[],
  limit: number,
  windowMs: number,
): string[] {
  const taken = ordered.filter(({ outcome }) => outcome !== 'refused');
  const violations: string[] = [];
  let oldest = 0;
  for (const call of ordered) {
    if (call.outcome !== 'refused') continue;
    const begin = call.before - windowMs - CLOCK_ERROR_MS;
    const reach = begin - LONGEST_DELAY_MS;
    while ((taken[oldest]?.before ?? Number.POSITIVE_INFINITY) < reach) oldest++;
    let count = 0;
    for (let at = oldest; at < taken.length; at++) {
      const other = taken[at];
      if (other === undefined || other.before > call.after) break;
      const last = other.outcome === 'unknown' ? other.before + LONGEST_DELAY_MS : other.after;
      if (last >= begin) count++;
    }
    if (count < limit) violations.push(`limit ${id}: a call was refused after ${count} of ${limit}`);
  }
  return violations;
}

/** A run of the handler of an idempotent request, or a response to such a request. */
export type OrderRecord = { readonly key: string } & (
  | { readonly kind: 'run'; readonly run: number }
  | { readonly kind: 'answer'; readonly body: string }
);

/** Each handler ran at most once per key, and each response of a key is that of its run. */
export function orderViolations(records: readonly OrderRecord[]): readonly string[] {
  const violations: string[] = [];
  for (const [key, ofKey] of grouped(records, (record) => record.key)) {
    const runs = ofKey.flatMap((record) => (record.kind === 'run' ? [record.run] : []));
    if (runs.length > 1) violations.push(`order ${key}: the handler ran ${runs.length} times`);
    for (const record of ofKey) {
      if (record.kind === 'answer' && record.body !== `run ${runs[0]}`) {
        violations.push(`order ${key}: the response is '${record.body}', and the run was ${runs[0]}`);
      }
    }
  }
  return violations;
}

/** One request of a session, in the order of its client. A response other than 200 has no `seen`. */
export interface SessionStepRecord {
  readonly session: string;
  readonly kind: 'login' | 'count' | 'logout';
  readonly isAnswered: boolean;
  /** The number that the handler found in the session and replaced with its successor; undefined if not logged in. */
  readonly seen?: number | undefined;
}

/** No acknowledged change of a session is lost, and no session is used after its logout. */
export function sessionViolations(steps: readonly SessionStepRecord[]): readonly string[] {
  const violations: string[] = [];
  for (const [session, ofSession] of grouped(steps, (step) => step.session)) {
    let [least, most] = [0, 0];
    let isEnded: 'no' | 'perhaps' | 'yes' = 'no';
    for (const { kind, isAnswered, seen } of ofSession) {
      if (kind === 'logout') isEnded = isAnswered ? 'yes' : isEnded === 'yes' ? 'yes' : 'perhaps';
      if (kind !== 'count') continue;
      if (!isAnswered) {
        most++;
        continue;
      }
      if (seen === undefined) {
        if (isEnded === 'no') violations.push(`session ${session}: it was lost after ${least}`);
        isEnded = 'yes';
        continue;
      }
      if (isEnded === 'yes') violations.push(`session ${session}: it was used after its end`);
      isEnded = 'no';
      if (seen < least || seen > most) {
        violations.push(`session ${session}: it has ${seen}, and should have ${least} to ${most}`);
      }
      least = seen + 1;
      most = seen + 1;
    }
  }
  return violations;
}

/** A purge that was acknowledged, or a read of a value, in which `version` is the source's at the time of its load. */
export interface PurgeRecord {
  readonly key: string;
  readonly kind: 'purged' | 'read';
  /** When the purge was acknowledged, or when the read began. */
  readonly at: number;
  readonly version: number;
}

/** No read that began after a purge has a value from before it. */
export function purgeViolations(records: readonly PurgeRecord[]): readonly string[] {
  const violations: string[] = [];
  for (const [key, ofKey] of grouped(records, (record) => record.key)) {
    let purged = 0;
    for (const { kind, version } of ofKey.toSorted((one, other) => one.at - other.at)) {
      if (kind === 'purged') purged = Math.max(purged, version);
      else if (version < purged) {
        violations.push(`value ${key}: version ${version} was read after the purge of all before ${purged}`);
      }
    }
  }
  return violations;
}

/** A call that adds 1 to a counter: `increment` of a field, or `update` of a document. */
export interface CountRecord {
  readonly counter: string;
  readonly outcome: 'done' | 'refused' | 'unknown';
  /** The sum, if the call is done. */
  readonly sum?: number | undefined;
}

/** No acknowledged addition is lost or repeated: each has a sum of its own, and none counts calls that were refused. */
export function countViolations(records: readonly CountRecord[]): readonly string[] {
  const violations: string[] = [];
  for (const [counter, ofCounter] of grouped(records, (record) => record.counter)) {
    const sums = ofCounter.flatMap(({ sum }) => sum ?? []);
    const seen = new Set<number>();
    for (const sum of sums) {
      if (seen.has(sum)) violations.push(`counter ${counter}: two calls had the sum ${sum}`);
      seen.add(sum);
    }
    const most = ofCounter.filter(({ outcome }) => outcome !== 'refused').length;
    const greatest = sums.reduce((one, other) => Math.max(one, other), 0);
    if (greatest > most) violations.push(`counter ${counter}: it reached ${greatest} with ${most} calls`);
  }
  return violations;
}

function grouped<Item>(items: readonly Item[], keyOf: (item: Item) => string): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}
