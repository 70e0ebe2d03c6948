import type { Middleware } from '../http/middleware.ts';
import { type CheckDeps, type KitCheck, KitChecks } from './check.ts';
import { type HealthDeps, healthMiddleware } from './middleware.ts';
import type { HealthOptions } from './options.ts';

export interface HealthMethods {
  /**
   * Checks that Redis works, and looks for settings that cause failures in production. Resolves within `commandTimeout`, also
   * while Redis is frozen or absent and after `close()`, and never rejects. Concurrent calls share one check.
   */
  check(): Promise<KitCheck>;
  /**
   * Returns a handler for health probes, which answers every request with 200 or 503 and JSON. 503 means that the app
   * cannot do its work: Redis does not work and a part of the app requires it, or the kit is closed.
   */
  health(options?: HealthOptions): Middleware;
}

/** The methods are the same in all namespaces, since they share the connection. */
export function healthFeature(kit: CheckDeps & Omit<HealthDeps, 'checks'>): HealthMethods {
  const checks = new KitChecks(kit);
  return {
    check: () => checks.check(),
    health: (options: HealthOptions = {}) => healthMiddleware(options, { ...kit, checks }),
  };
}
