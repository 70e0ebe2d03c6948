import { Renewal } from '../../waiting/renewal.ts';
import type { EntryKey, FillLease } from './entry-key.ts';
import type { EntryStore } from './entry-store.ts';

/** The lease of one fill, which is renewed until `stopRenewal()` or `end()`. Does nothing for `NO_LEASE`. */
export class HeldLease {
  readonly #store: EntryStore;
  readonly #key: EntryKey<unknown>;
  readonly #lease: FillLease;
  readonly #renewal: Renewal | undefined;
  /** Whether another process waits for the fill, as of the last renewal. */
  isAwaited = false;
  /** Called when a renewal shows that another process has begun to wait. */
  onAwaited: () => void = () => undefined;

  constructor(store: EntryStore, key: EntryKey<unknown>, lease: FillLease) {
    this.#store = store;
    this.#key = key;
    this.#lease = lease;
    if (lease.token === '') return;
    const failed = (error: unknown) => store.reportFailure(error);
    this.#renewal = new Renewal({ renew: () => this.#renew(), failed });
    this.#renewal.start(lease.leaseMs);
  }

  stopRenewal(): void {
    this.#renewal?.stop();
  }

  /** Ends the lease in Redis, and sets a hit-for-miss marker for `hitForMissMs`; 0 sets none. */
  end(hitForMissMs = 0): void {
    this.stopRenewal();
    if (this.#lease.token !== '') void this.#store.endFill(this.#key, this.#lease, hitForMissMs);
  }

  async #renew(): Promise<true> {
    const isAwaited = await this.#store.renewFill(this.#key, this.#lease);
    if (isAwaited && !this.isAwaited) {
      this.isAwaited = true;
      this.onAwaited();
    }
    return true;
  }
}
