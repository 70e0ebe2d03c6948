import { setMaxListeners } from 'node:events';
import { performance } from 'node:perf_hooks';
import { backgroundFeature } from './background/index.ts';
import { showOnly } from './base/brief-view.ts';
import { systemClock } from './base/clock.ts';
import type { Duration } from './base/duration.ts';
import { Emitter } from './base/emitter.ts';
import { checkListener, type KitEvents } from './base/events.ts';
import { FailurePolicies } from './base/failure-policies.ts';
import type { Keys } from './base/keys.ts';
import { OpenWork } from './base/open-work.ts';
import { OptionReader } from './base/option-reader.ts';
import { Reporter } from './base/reporter.ts';
import { timerOption } from './base/timed-options.ts';
import { WeakRegistry } from './base/weak-registry.ts';
import { cacheFeature } from './cache/index.ts';
import { channelFeature } from './channels/index.ts';
import { concurrencyFeature } from './concurrency/index.ts';
import { endpointsOf } from './connection/endpoints.ts';
import { documentsFeature } from './documents/index.ts';
import { RequestDeadlines } from './engine/deadline.ts';
import { memoryEngine } from './engine/memory-engine.ts';
import { MemoryKeyspace } from './engine/memory-keyspace.ts';
import { healthFeature } from './health/index.ts';
import { Front } from './http/front.ts';
import { pipelineOf } from './http/pipeline.ts';
import { idempotencyFeature } from './idempotency/index.ts';
import { openBackend } from './kit-backend.ts';
import { type KitOptions, type KitSettings, resolveKitOptions } from './kit-options.ts';
import { lockFeature } from './lock/index.ts';
import { logFeature } from './log/index.ts';
import { membersFeature } from './members/index.ts';
import { rateLimitFeature } from './rate-limit/index.ts';
import type { DefaultClient, RedisKit } from './redis-kit.ts';
import { sessionFeature } from './session/index.ts';
import { sseFeature } from './sse/index.ts';
import { stateFeature } from './state/index.ts';
import { ProcessChannel } from './waiting/process-channel.ts';

/**
 * Creates a kit and starts to connect. An unreachable Redis does not throw: each feature follows its failure policy
 * until Redis is available. Throws a ConfigError when an option is wrong.
 */
export function createRedisKit<Client = DefaultClient>(options: KitOptions<Client> = {}): RedisKit<Client> {
  const settings = resolveKitOptions(options as KitOptions, process.env);
  const parts = openParts(settings);
  const session = sessionFeature(parts);
  const rateLimit = rateLimitFeature(parts);
  const cache = cacheFeature(parts, settings.cachePolicies);
  const lock = lockFeature(parts);
  const concurrency = concurrencyFeature(parts);
  const idempotency = idempotencyFeature(parts);
  const channels = channelFeature(parts);
  const log = logFeature(parts);
  const background = backgroundFeature(parts);
  const state = stateFeature(parts);
  const documents = documentsFeature(parts);
  const members = membersFeature(parts);
  const sse = sseFeature(parts);
  const health = healthFeature(parts);

  const create = (keys: Keys): RedisKit<Client> => {
    const kit = {
      ...session(keys),
      ...rateLimit(keys),
      ...cache(keys),
      ...lock(keys),
      ...concurrency(keys),
      ...idempotency(keys),
      ...channels(keys),
      ...log(keys),
      ...background,
      ...state(keys),
      ...documents(keys),
      ...members(keys),
      ...sse(keys),
      ...health,
      pipeline: (...middleware: readonly unknown[]) => pipelineOf(middleware),
      front: (app: (req: never, res: never) => unknown) => parts.front.listener(app),
      prefix: keys.prefix,
      get client() {
        return (parts.connection?.client ?? null) as Client;
      },
      ready: () => parts.ready(),
      close: async (options: { readonly timeout?: Duration | undefined } = {}) => {
        const timeoutMs = timerOption(new OptionReader('kit.close', options, ['timeout']), 'timeout', '5s');
        if (keys === settings.keys) await parts.close(timeoutMs);
      },
      namespace: (name: string) => kitIn(keys.namespace(name)),
      on<Name extends keyof KitEvents>(event: Name, listener: (event: KitEvents[Name]) => void) {
        checkListener(event, listener);
        return parts.reporter.events.on(event, listener);
      },
    };
    return Object.freeze(showOnly(kit, 'RedisKit', { prefix: keys.prefix }));
  };

  // Each object of a namespace refers to its `Keys`, and so keeps the namespace's kit alive.
  const namespaces = new WeakRegistry<Keys>();
  const kits = new WeakMap<Keys, RedisKit<Client>>();
  function kitIn(named: Keys): RedisKit<Client> {
    const keys = namespaces.get(named.prefix, () => named);
    const kit = kits.get(keys) ?? create(keys);
    kits.set(keys, kit);
    return kit;
  }

  return kitIn(settings.keys);
}

/** Creates the parts that all features of a kit and of its namespaces share. */
function openParts(settings: KitSettings) {
  const { commandTimeoutMs, keys, logger } = settings;
  const events = new Emitter<KitEvents>(logger);
  const failurePolicies = new FailurePolicies();
  const reporter = new Reporter(events, logger, failurePolicies);
  const endpoints = () => endpointsOf(settings.connection);
  const hosts = () => endpoints().map(({ host }) => ` at ${host}`);
  reporter.nameNodes((node) => (node === 'redis' ? `Redis${hosts().join()}` : node));
  for (const warning of settings.warnings) reporter.warning(warning);
  const closing = new AbortController();
  // Each middleware with waiting requests adds a listener to the signal, which is no leak.
  setMaxListeners(0, closing.signal);
  const closeDeadline = new AbortController();
  setMaxListeners(0, closeDeadline.signal);
  const work = new OpenWork();
  const store = openBackend(settings, events);
  const fallback = new MemoryKeyspace(systemClock);
  const channels = keys.callChannels();

  let closed: Promise<void> | undefined;
  async function closeOnce(timeoutMs: number): Promise<void> {
    const until = performance.now() + timeoutMs;
    closing.abort();
    await work.ended(timeoutMs);
    closeDeadline.abort();
    await store.close(Math.max(0, until - performance.now()));
  }

  return {
    ...store,
    close(timeoutMs: number): Promise<void> {
      closed ??= closeOnce(timeoutMs);
      return closed;
    },
    reporter,
    failurePolicies,
    keys,
    commandTimeoutMs,
    endpoints,
    optionWarnings: settings.warnings,
    work,
    closing: closing.signal,
    closeDeadline: closeDeadline.signal,
    isMemory: store.connection === undefined,
    front: new Front(reporter, () => performance.now()),
    deadlines: new RequestDeadlines(commandTimeoutMs),
    channel: keys.cacheChannel(),
    processChannel: new ProcessChannel(store.pubSub, channels, closing.signal),
    fallbackEngine: memoryEngine(fallback, systemClock),
    fallbackChannel: new ProcessChannel(fallback, channels, closing.signal),
  };
}
