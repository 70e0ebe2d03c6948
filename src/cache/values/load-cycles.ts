import { RedisKitError } from '../../base/errors.ts';
import type { Flight, Outcome } from '../store/flights.ts';

/*
 * A load that asks for its own key waits for itself. That a call is made in the async context of a load proves nothing:
 * pools carry a context over to other requests, whose calls must not be refused. What proves it is the chain of awaits,
 * which V8 walks from a promise to the functions that wait for it when it makes a stack trace. Each load runs below a
 * function with a name of its own, which is looked for there. A chain that V8 cannot follow (a promise that several wait
 * for) proves nothing, and the caller waits as long as its `wait` allows.
 */

/** Most flights end sooner, and then nothing is looked for. */
const LOOK_AFTER_MS = 20;

/** Each await between two loads is a frame. */
const MAX_FRAMES = 200;

interface RunningLoad {
  readonly key: string;
  /** The flights that this load, or one that it waits for, certainly waits for. */
  readonly waitsFor: Set<Flight<string>>;
}

/** By the names of their functions. */
const running = new Map<string, RunningLoad>();
const leaders = new WeakMap<Flight<string>, RunningLoad>();
let loads = 0;

/** Runs the load of a key, so that calls which it waits for know it. */
export async function runLoad<Value>(
  key: string,
  flight: Flight<string> | undefined,
  load: () => Value | Promise<Value>,
): Promise<Value> {
  const name = `redis-kit load ${++loads}`;
  const own: RunningLoad = { key, waitsFor: new Set() };
  running.set(name, own);
  if (flight !== undefined) leaders.set(flight, own);
  const named = { [name]: async () => await load() };
  try {
    return await (named[name] as () => Promise<Value>)();
  } finally {
    running.delete(name);
  }
}

/** Follows a flight, and rejects where the flight certainly waits for the caller. */
export async function followUnlessCyclic(
  flight: Flight<string>,
  ms: number,
): Promise<Outcome<string> | undefined> {
  const following = flight.follow(ms);
  if (await isSettledWithin(following, Math.min(ms, LOOK_AFTER_MS))) return following;
  const waiting = waitingLoads();
  for (const load of waiting) load.waitsFor.add(flight);
  try {
    const cycle = cycleOf(flight, waiting);
    if (cycle !== undefined) throw cycleError(cycle);
    return await following;
  } finally {
    for (const load of waiting) load.waitsFor.delete(flight);
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

/** The loads that wait for the async function that calls this, the nearest first. */
function waitingLoads(): readonly RunningLoad[] {
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
    // A stack is made when it is first read.
    void new Error('the functions that wait').stack;
  } catch {
    // In a hardened process Error cannot be changed: then nothing is proven.
  } finally {
    Object.assign(Error, { stackTraceLimit, prepareStackTrace });
  }
  return names;
}

/** The keys of a circle, in which each load waits for the next; undefined where there is none. */
function cycleOf(flight: Flight<string>, waiting: readonly RunningLoad[]): readonly string[] | undefined {
  const path = pathTo(waiting, flight, new Set());
  const last = path?.at(-1);
  if (path === undefined || last === undefined) return undefined;
  const before = waiting.slice(0, waiting.indexOf(last) + 1).reverse();
  return [...before, ...path].map(({ key }) => key);
}

/** The loads from the one that leads a flight to one of these, each of which waits for the next. */
function pathTo(
  ends: readonly RunningLoad[],
  flight: Flight<string>,
  seen: Set<RunningLoad>,
): readonly RunningLoad[] | undefined {
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
  const circle = keys.map((key) => `'${key}'`).join(' > ');
  return new RedisKitError(
    'ERR_REDIS_KIT_LOAD_CYCLE',
    `kit.remember: a load waits for itself: ${circle}; give what the load asks for another key, or load it without kit.remember`,
  );
}
