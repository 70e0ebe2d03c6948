import { randomUUID } from 'node:crypto';
import { beforeEach, describe, onTestFinished } from 'vitest';
import { createRedisKit, type KitEvents, type KitOptions, type RedisKit } from '../../src/index.ts';
import { redisUrl } from './context.ts';
import { resumeTime, stopClock, timeOfScripts } from './time.ts';

/** Long enough that no command is late on a loaded machine. Tests of deadlines set their own. */
const COMMAND_TIMEOUT = '1m';

/** Creates a kit that is closed with the test, with a prefix of its own unless the test sets one. */
export function kitForTest(options: KitOptions): RedisKit {
  const kit = createRedisKit({
    prefix: testPrefix(),
    logger: false,
    commandTimeout: COMMAND_TIMEOUT,
    ...options,
  } as KitOptions<null>) as RedisKit;
  if (kit.client !== null && options.client === undefined) followStoppedClock(kit.client);
  for (const method of ['acquire', 'tryAcquire', 'using']) markAsHandled(kit.locks, method);
  onTestFinished(() => {
    resumeTime();
    // The close does not wait for locks that a test still holds.
    return kit.close({ timeout: 200 });
  });
  return kit;
}

/** Ignores the rejection of a lock that a failed test was waiting for: it must not fail another test. */
function markAsHandled(locks: RedisKit['locks'], method: string): void {
  const call = Reflect.get(locks, method) as (...args: unknown[]) => Promise<unknown>;
  Reflect.set(locks, method, (...args: unknown[]) => {
    const result = call.apply(locks, args);
    result.catch(() => undefined);
    return result;
  });
}

/** While a test has stopped the clock, scripts of this client receive its time instead of the server's. */
function followStoppedClock(client: object): void {
  const send = Reflect.get(client, 'sendCommand') as (...args: unknown[]) => unknown;
  Reflect.set(client, 'sendCommand', (...args: unknown[]) => send.apply(client, args.map(atStoppedTime)));
}

/** The first argument of a script is the time; empty for the server's clock. */
function atStoppedTime(argument: unknown): unknown {
  const time = timeOfScripts();
  if (time === undefined || !Array.isArray(argument) || !/^EVAL(SHA)?$/.test(String(argument[0]))) {
    return argument;
  }
  const at = 3 + Number(argument[2]);
  return argument[at] === '' ? argument.with(at, String(time)) : argument;
}

export function testPrefix(): string {
  return `t-${randomUUID().slice(0, 8)}`;
}

type Promises = (url: () => string) => void;

/** Runs the same tests on both engines. */
export function describeOnBothEngines(name: string, tests: Promises): void {
  describe(`${name} (memory:)`, () => tests(() => 'memory:'));
  describe(`${name} (Redis)`, () => tests(redisUrl));
}

/** The same with a stopped clock, for tests that depend on single seconds. */
export function describeBySeconds(name: string, tests: Promises): void {
  describeOnBothEngines(name, (url) => {
    beforeEach(stopClock);
    tests(url);
  });
}

/** Records every such event from now on. */
export function eventsOf<Name extends keyof KitEvents>(
  kit: Pick<RedisKit, 'on'>,
  name: Name,
): readonly KitEvents[Name][] {
  const events: KitEvents[Name][] = [];
  kit.on(name, (event) => events.push(event));
  return events;
}
