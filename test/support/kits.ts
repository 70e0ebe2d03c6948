import { randomUUID } from 'node:crypto';
import { describe, onTestFinished, type TestOptions } from 'vitest';
import { createRedisKit, type KitEvents, type KitOptions, type RedisKit } from '../../src/index.ts';
import { redisUrl } from './context.ts';

/** A kit that ends with the test. Its prefix is its own, as the shared server asks, unless the test gives one. */
export function kitForTest(options: KitOptions): RedisKit {
  const kit = createRedisKit({ prefix: testPrefix(), logger: false, ...options } as KitOptions<null>);
  // Locks that a test leaves held are not waited for.
  onTestFinished(() => kit.close({ timeout: 200 }));
  return kit as RedisKit;
}

export function testPrefix(): string {
  return `t-${randomUUID().slice(0, 8)}`;
}

type Promises = (url: () => string) => void;

/** Runs the same promises on both engines. */
export function describeOnBothEngines(name: string, tests: Promises, onRedis: TestOptions = {}): void {
  describe(`${name} (memory:)`, () => tests(() => 'memory:'));
  describe(`${name} (Redis)`, onRedis, () => tests(redisUrl));
}

/** The same for tests that tell one second from the next: the clock of Redis goes on while a loaded machine stands still. */
export function describeBySeconds(name: string, tests: Promises): void {
  describeOnBothEngines(name, tests, { retry: 2 });
}

/** Notes every such event from now on. */
export function eventsOf<Name extends keyof KitEvents>(
  kit: Pick<RedisKit, 'on'>,
  name: Name,
): readonly KitEvents[Name][] {
  const events: KitEvents[Name][] = [];
  kit.on(name, (event) => events.push(event));
  return events;
}
