/** A failure policy that refuses requests while Redis is unavailable. */
const CLOSED = new Set(['error', 'deny']);

/**
 * The failure policies of everything that a kit and its namespaces have created. `kit.health()` uses them to decide
 * whether the app can do its work without Redis.
 */
export class FailurePolicies {
  readonly #policies = new Set<string>();

  /** Records the failure policy of a middleware, or of a call that has no middleware. */
  record(policy: 'error' | 'anonymous' | 'memory' | 'allow' | 'deny' | 'bypass'): void {
    this.#policies.add(policy);
  }

  /** Whether all that was created works without Redis. False if nothing was created: its failure policy is unknown. */
  get workWithoutRedis(): boolean {
    return this.#policies.size > 0 && ![...this.#policies].some((policy) => CLOSED.has(policy));
  }
}
