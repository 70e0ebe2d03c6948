type FailurePolicy = 'error' | 'anonymous' | 'memory' | 'allow' | 'deny' | 'bypass' | 'reject' | 'resume';

/** The failure policies that refuse requests or calls while Redis is unavailable. */
const CLOSED = new Set<FailurePolicy>(['error', 'deny', 'reject']);

const BEHAVIOUR: Readonly<Record<FailurePolicy, string>> = {
  error: 'answers 503',
  deny: 'answers 503',
  anonymous: 'gives requests an empty session',
  memory: 'decides in this process',
  allow: 'lets requests pass',
  bypass: 'runs the handler',
  reject: 'rejects calls',
  resume: 'keeps its streams open',
};

/**
 * The failure policies of everything that a kit and its namespaces have created. `kit.health()` uses them to decide
 * whether the app can do its work without Redis.
 */
export class FailurePolicies {
  readonly #policies = new Map<string, Set<FailurePolicy>>();

  /** Records the failure policy of a middleware, or of a call that has no middleware. */
  record(feature: string, policy: FailurePolicy): void {
    const policies = this.#policies.get(feature);
    if (policies === undefined) this.#policies.set(feature, new Set([policy]));
    else policies.add(policy);
  }

  /** Whether all that was created works without Redis. False if nothing was created: its failure policy is unknown. */
  get workWithoutRedis(): boolean {
    const all = [...this.#policies.values()].flatMap((policies) => [...policies]);
    return all.length > 0 && !all.some((policy) => CLOSED.has(policy));
  }

  /** The behaviour of each feature that is in use: `session answers 503, rate decides in this process`. */
  describe(): string {
    const behaviourOf = (policies: Iterable<FailurePolicy>) =>
      [...new Set(Array.from(policies, (policy) => BEHAVIOUR[policy]))].join(' or ');
    return Array.from(this.#policies, ([feature, policies]) => `${feature} ${behaviourOf(policies)}`).join(
      ', ',
    );
  }
}
