import { RedisKitError } from '../../base/errors.ts';
import type { Flight, FlightOutcome } from '../store/local-state.ts';

/*
 * A loader that calls kit.remember with its own key waits for itself. The async context of a call does not prove such a
 * cycle: connection pools carry a context over to other requests, whose calls must not be refused. The chain of awaits
 * proves it. When V8 builds a stack trace, it follows the chain from a promise to the functions that await the promise.
 * Each loader runs inside a function with a unique name, so that stack traces identify the loader. Where V8 cannot
 * follow the chain (several functions await one promise), no cycle is found, and the caller waits as long as its `wait`
 * allows.
 */

/** How long a caller follows a flight before it looks for a cycle: most flights end sooner. */
const LOOK_AFTER_MS = 20;

/** The depth of the stack traces in which cycles are found: each await between two loaders takes a frame. */
const MAX_FRAMES = 200;

interface RunningLoader {
  readonly key: string;
  /** The flights for which this loader is known to wait. */
  readonly waitsFor: Set<Flight<string>>;
}

/** The loaders that are running, by the unique names of their functions. */
const running = new Map<string, RunningLoader>();
const leaders = new WeakMap<Flight<string>, RunningLoader>();
let runs = 0;

/** Runs the loader of a key inside a function with a unique name. */
export async function runLoader<Value>(
  key: string,
  flight: Flight<string> | undefined,
  load: () => Value | Promise<Value>,
): Promise<Value> {
  const name = `redis-kit load ${++runs}`;
  const own: RunningLoader = { key, waitsFor: new Set() };
  running.set(name, own);
  if (flight !== undefined) leaders.set(flight, own);
  const named = { [name]: async () => await load() };
  try {
    return await (named[name] as () => Promise<Value>)();
  } finally {
    running.delete(name);
  }
}

/** Waits for a flight as `flight.follow()` does, but rejects if the loader of the flight waits for the caller. */
export async function followUnlessCyclic(
  flight: Flight<string>,
  ms: number,
): Promise<FlightOutcome<string> | undefined> {
  const following = flight.follow(ms);
  if (await isSettledWithin(following, Math.min(ms, LOOK_AFTER_MS))) return following;
  const waiting = waitingLoaders();
  for (const loader of waiting) loader.waitsFor.add(flight);
  try {
    const cycle = cycleOf(flight, waiting);
    if (cycle !== undefined) throw cycleError(cycle);
    return await following;
  } finally {
    for (const loader of waiting) loader.waitsFor.delete(flight);
  }
}

async function isSettledWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, ms, false).unref();
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The loaders on the current chain of awaits, all of which wait for the caller, the innermost first. */
function waitingLoaders(): readonly RunningLoader[] {
  return awaitingFunctions().flatMap((name) => running.get(name ?? '') ?? []);
}

function awaitingFunctions(): readonly (string | null)[] {
  const { stackTraceLimit, prepareStackTrace } = Error;
  let names: readonly (string | null)[] = [];
  try {
    Error.stackTraceLimit = MAX_FRAMES;
    Error.prepareStackTrace = (_error, sites) => {
      names = sites.map((site) => site.getFunctionName());
      return '';
    };
    // V8 calls `prepareStackTrace` when `stack` is first read.
    void new Error('the functions that wait').stack;
  } catch {
    // Hardened processes freeze `Error`: no cycle is found in them.
  } finally {
    Object.assign(Error, { stackTraceLimit, prepareStackTrace });
  }
  return names;
}

/** The keys of a cycle in which each loader waits for the next; undefined without a cycle. */
function cycleOf(flight: Flight<string>, waiting: readonly RunningLoader[]): readonly string[] | undefined {
  const path = pathTo(waiting, flight, new Set());
  const last = path?.at(-1);
  if (path === undefined || last === undefined) return undefined;
  const before = waiting.slice(0, waiting.indexOf(last) + 1).reverse();
  return [...before, ...path].map(({ key }) => key);
}

/** A chain of loaders, each waiting for the next, from the flight's leader to one of `ends`; undefined without one. */
function pathTo(
  ends: readonly RunningLoader[],
  flight: Flight<string>,
  seen: Set<RunningLoader>,
): readonly RunningLoader[] | undefined {
  const leader = leaders.get(flight);
  if (leader === undefined || seen.has(leader)) return undefined;
  seen.add(leader);
  if (ends.includes(leader)) return [leader];
  for (const next of leader.waitsFor) {
    const rest = pathTo(ends, next, seen);
    if (rest !== undefined) return [leader, ...rest];
  }
  return undefined;
}

function cycleError(keys: readonly string[]): RedisKitError {
  const cycle = keys.map((key) => `'${key}'`).join(' > ');
  return new RedisKitError(
    'ERR_REDIS_KIT_LOAD_CYCLE',
    `kit.remember: a loader waits for itself: ${cycle}; use another key inside the loader, or load the value without kit.remember`,
  );
}
