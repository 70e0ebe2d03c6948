import { asError, StoreError } from '../../base/errors.ts';
import type { CacheKeys, Keys } from '../../base/keys.ts';
import type { Reporter } from '../../base/reporter.ts';
import type { Deadline } from '../../engine/deadline.ts';
import type { Engine } from '../../engine/port.ts';
import { newerFormat } from '../../engine/reply.ts';
import { mayHaveRun, sendUntilAnswered } from '../../waiting/retry.ts';
import { type Entry, type Envelope, keepMs, type Lifetime, unpackEnvelope, usabilityOf } from './entry.ts';
import { cacheBound } from './operations/bound.ts';
import { cacheFillEnd, cacheFillRenew } from './operations/fill.ts';
import { type CacheReadArgs, type CacheReadReply, cacheRead, type LeaseState } from './operations/read.ts';
import { cacheWrite } from './operations/write.ts';
import { type Snapshot, type Versions, WHILE_MAKING_MS } from './versions.ts';

/** Where something is kept, and how it is read. */
export interface Place<Content> {
  readonly keys: CacheKeys;
  /** What it is kept under in this process. */
  localKey(): string;
  /** By what it is purged, whatever is made; tags come to these. */
  readonly names: readonly string[];
  /** The request headers on which what is kept here is believed to vary; empty for none. */
  variesOn(): string;
  learnVary(names: string): void;
  /** The variant that is asked for, where what is kept varies on these. */
  variantOf(names: string): string;
  /** What was packed, or undefined when it cannot be that. */
  unpack(info: unknown, body: Buffer): Content | undefined;
  /** Where content that was made for this place belongs by what it declares itself; undefined where that is here. */
  ownPlace?(content: Content): OwnPlace<Content> | undefined;
  /** Moves to where content for the same caller belongs by what is known now. For a caller that holds no lease and no flight. */
  move?(): void;
}

/** Another place than the one that content was made for. */
export interface OwnPlace<Content> {
  readonly place: Place<Content>;
  /** Whether the content may answer every caller of the place that it was made for. */
  readonly isForAll: boolean;
}

/** What is written for a place. */
export interface Making {
  /** The packed envelope. */
  readonly payload: Buffer;
  readonly lifetime: Lifetime;
  readonly sequence: number;
  readonly variesOn: string;
  readonly maxVariants: number;
  readonly bound: Bound | undefined;
}

/** The most entries that there may be under one policy. */
export interface Bound {
  readonly policy: string;
  readonly maxEntries: number;
}

export interface Lease {
  /** Empty for who wants none. */
  readonly token: string;
  readonly leaseMs: number;
}

export const NO_LEASE: Lease = { token: '', leaseMs: 0 };

/** What the store has of a place. */
export interface Finding<Content> {
  readonly entry: Entry<Content> | undefined;
  readonly lease: LeaseState;
  readonly leaseLeftMs: number;
}

export interface EntryStoreDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
  readonly now: () => number;
  readonly versions: Versions;
}

/** The state of a lookup. */
interface Asked {
  /** Redis has granted the lease, or may have: its reply was lost. */
  mayHoldLease: boolean;
}

/** One for what a response varies on, one for a purge that is met, and one to spare. */
const MOST_READS = 4;

/** Entries in the store, valid by their versions. */
export class EntryStore {
  readonly #deps: EntryStoreDeps;

  constructor(deps: EntryStoreDeps) {
    this.#deps = deps;
  }

  /**
   * Looks a place up, and takes the lease where nothing fresh is there. One command where what purges it is known
   * here, else two; another one where it varies on what nobody here knew, or was purged. A store that fails has nothing.
   */
  async find<Content>(
    place: Place<Content>,
    lease: Lease,
    maxAgeMs: number,
    deadline?: Deadline,
  ): Promise<Finding<Content>> {
    const asked: Asked = { mayHoldLease: false };
    try {
      return await this.#look(place, lease, asked, { maxAgeMs, deadline });
    } catch (error) {
      this.failed(error);
      // A lease that Redis may have granted is ours: the caller makes the entry under it, and ends it.
      return { entry: undefined, lease: asked.mayHoldLease ? 'granted' : 'none', leaseLeftMs: 0 };
    }
  }

  async #look<Content>(
    place: Place<Content>,
    { token, leaseMs }: Lease,
    asked: Asked,
    { maxAgeMs, deadline }: { readonly maxAgeMs: number; readonly deadline: Deadline | undefined },
  ): Promise<Finding<Content>> {
    const { versions, now } = this.#deps;
    let purgedAt = highest(versions.known(place.names, maxAgeMs));
    let names = place.variesOn();
    for (let reads = 1; ; reads++) {
      const { entry: key, fill, variant } = place.keys;
      const readAt = now();
      const keys = names === '' ? [key, fill] : [key, fill, variant(place.variantOf(names))];
      const args = { names, minSequence: purgedAt, token, lease: leaseMs };
      const reply = await this.#readOnce(keys, args, asked, deadline);
      if (reply.found === 'newer') throw newerFormat('cache');
      if (reply.names !== '' && reply.names !== names && reads < MOST_READS) {
        names = reply.names;
        place.learnVary(names);
        continue;
      }
      const lease = { lease: reply.lease, leaseLeftMs: reply.leaseLeft };
      const envelope = this.#read(reply);
      const content = envelope && this.#contentOf(place, envelope);
      if (envelope === undefined || content === undefined) return { entry: undefined, ...lease };
      const keptMs = reply.left > 0 ? reply.kept : Math.max(reply.kept, WHILE_MAKING_MS);
      const snapshot =
        versions.known(envelope.names, maxAgeMs) ?? (await versions.ask(envelope.names, keptMs, deadline));
      const entry = entryOf(envelope, content, reply, snapshot, readAt);
      const usability = usabilityOf(entry, now());
      if (usability !== 'fresh' && lease.lease === 'none' && token !== '' && reads < MOST_READS) {
        // The script took it for fresh: it did not know of the purge that we know of now.
        purgedAt = highest(snapshot);
        continue;
      }
      return { entry: usability === 'void' ? undefined : entry, ...lease };
    }
  }

  async #readOnce(
    keys: readonly string[],
    args: CacheReadArgs,
    asked: Asked,
    deadline: Deadline | undefined,
  ): Promise<CacheReadReply> {
    try {
      const reply = await this.#deps.engine.run(cacheRead, keys, args, deadline);
      asked.mayHoldLease ||= reply.lease === 'granted';
      return reply;
    } catch (error) {
      asked.mayHoldLease ||= args.token !== '' && mayHaveRun(error);
      throw error;
    }
  }

  /** Stores what was made, and ends its fill; resolves to its size, or undefined when a newer one is there. */
  async write(place: Place<unknown>, making: Making, token: string): Promise<number | undefined> {
    const { engine } = this.#deps;
    const { variesOn: names, sequence, lifetime, maxVariants, payload } = making;
    const variant = names === '' ? '' : place.variantOf(names);
    const { entry, fill } = place.keys;
    const keys = names === '' ? [entry, fill] : [entry, fill, place.keys.variant(variant)];
    const target = names === '' ? entry : place.keys.variant(variant);
    const keep = Math.max(1, Math.ceil(keepMs(lifetime)));
    const times = { fresh: Math.max(0, Math.floor(lifetime.freshMs)), keep };
    const told = { token, channel: this.#deps.keys.cacheChannel(), message: filledMessage(fill) };
    const args = { ...told, ...times, sequence, names, variant, maxVariants, payload };
    const { stored, evicted } = await engine.run(cacheWrite, keys, args);
    for (const id of evicted) await engine.delete([place.keys.variant(id)]);
    if (!stored) return undefined;
    if (making.bound !== undefined) await this.#keepWithin(making.bound, target, keep);
    return payload.length;
  }

  async #keepWithin({ policy, maxEntries }: Bound, member: string, lifeMs: number): Promise<void> {
    const { engine, keys } = this.#deps;
    const surplus = await engine.run(cacheBound, [keys.cachePolicy(policy)], { member, lifeMs, maxEntries });
    // They are in other slots.
    await Promise.all(surplus.map((key) => engine.delete([key])));
  }

  /**
   * Ends a fill that stored nothing; for `passingMs`, concurrent requests do not wait for another. Never rejects: where
   * Redis does not answer, it is tried again until the lease has ended anyway, since other processes wait until then.
   */
  async endFill(place: Place<unknown>, { token, leaseMs }: Lease, passingMs: number): Promise<void> {
    const { engine, keys } = this.#deps;
    const { fill } = place.keys;
    const args = { token, passing: passingMs, channel: keys.cacheChannel(), message: filledMessage(fill) };
    const end = () => engine.run(cacheFillEnd, [fill], args);
    try {
      await end();
    } catch (error) {
      this.failed(error);
      await sendUntilAnswered(end, leaseMs);
    }
  }

  /** Deletes what is stored under a place that has no variants. Never rejects. */
  async drop({ keys }: Place<unknown>): Promise<void> {
    try {
      await this.#deps.engine.delete([keys.entry]);
    } catch (error) {
      this.failed(error);
    }
  }

  /** Resolves to whether another process waits for the fill. */
  async renewFill(place: Place<unknown>, { token, leaseMs }: Lease): Promise<boolean> {
    const args = { token, lease: leaseMs };
    return (await this.#deps.engine.run(cacheFillRenew, [place.keys.fill], args)).isAwaited;
  }

  failed(error: unknown): void {
    this.#deps.reporter.failure('cache', asError(error));
  }

  #read({ found, payload, age, left }: CacheReadReply): Envelope | undefined {
    const envelope = payload === null ? undefined : unpackEnvelope(payload, left, age);
    if (found === 'corrupt' || (payload !== null && envelope === undefined)) this.#corrupt();
    return envelope;
  }

  #contentOf<Content>(place: Place<Content>, { info, body }: Envelope): Content | undefined {
    const content = place.unpack(info, body);
    if (content === undefined) this.#corrupt();
    return content;
  }

  #corrupt(): void {
    this.failed(
      new StoreError('ERR_REDIS_KIT_CORRUPT', 'a cached value cannot be read and counts as absent'),
    );
  }
}

function entryOf<Content>(
  { names, lifetime, body }: Envelope,
  content: Content,
  { sequence, age, left, payload }: CacheReadReply,
  snapshot: Snapshot,
  readAt: number,
): Entry<Content> {
  const bytes = payload?.length ?? body.length;
  return {
    content,
    names,
    sequence,
    versions: snapshot.versions,
    lifetime,
    bytes,
    readAt: Math.min(readAt, snapshot.readAt),
    storedAt: readAt - age,
    freshUntil: lifetime.freshMs > 0 ? readAt + left : readAt,
  };
}

function highest(snapshot: Snapshot | undefined): number {
  let sequence = 0;
  for (const { hard, soft } of snapshot?.versions ?? []) {
    if (hard !== Number.POSITIVE_INFINITY) sequence = Math.max(sequence, hard, soft);
  }
  return sequence;
}

function filledMessage(key: string): string {
  return JSON.stringify(['filled', key]);
}
