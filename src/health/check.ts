import { asError, ConnectionError, closedError, RedisKitError } from '../base/errors.ts';
import type { Keys } from '../base/keys.ts';
import type { Connection } from '../connection/connection.ts';
import type { Endpoint } from '../connection/endpoints.ts';
import { eventLoopTimeMs } from '../engine/event-loop-time.ts';
import { ReplyError } from '../engine/port.ts';
import { inspectServers } from './inspect-servers.ts';
import { type Probe, probeMasters } from './probe.ts';
import { REPLICA } from './server-info.ts';
import { transportWarnings } from './transport.ts';

/** The state of the Redis of a kit, as `kit.check()` returns it. */
export interface KitCheck {
  /** Whether all masters answered within the deadline and accept writes. */
  readonly ok: boolean;
  readonly mode: 'memory' | Connection['mode'];
  /** How long the slowest master took to answer, in milliseconds. Absent on `memory:`, and if `ok` is false. */
  readonly latencyMs?: number;
  /** Why `ok` is false. The text may name hosts. */
  readonly error?: string;
  /** Problems that cause failures in production, and settings that could not be read. */
  readonly warnings: string[];
}

export interface CheckDeps {
  /** Undefined on `memory:`. */
  readonly connection: Connection | undefined;
  readonly endpoints: () => readonly Endpoint[];
  /** Warnings about the options of the kit. */
  readonly optionWarnings: readonly string[];
  readonly keys: Keys;
  readonly commandTimeoutMs: number;
  readonly closing: AbortSignal;
}

/** An answer that takes more than this share of `commandTimeout` causes a warning. */
const SLOW_SHARE = 0.5;

const MEMORY: Probe = { masters: [], latencyMs: 0, error: undefined };

/** The reply by which Redis refused a command, or by which a node refuses all commands. */
function refusalIn(error: unknown): ReplyError | undefined {
  const reply = error instanceof ConnectionError ? error.cause : error;
  return reply instanceof ReplyError ? reply : undefined;
}

/** Checks the Redis of a kit. Concurrent calls share one check. */
export class KitChecks {
  readonly #deps: CheckDeps;
  #probing: Promise<Probe> | undefined;
  #checking: Promise<KitCheck> | undefined;

  constructor(deps: CheckDeps) {
    this.#deps = deps;
  }

  /** Checks whether Redis works and how it is set up. Resolves within `commandTimeout`, and never rejects. */
  check(): Promise<KitCheck> {
    this.#checking ??= this.#check().finally(() => {
      this.#checking = undefined;
    });
    return this.#checking;
  }

  /** Checks only whether Redis works, and shows an error by its code. */
  async checkBriefly(): Promise<Omit<KitCheck, 'warnings'>> {
    const probe = await this.#probe();
    const code = probe.error instanceof RedisKitError ? probe.error.code : 'ERR_REDIS_KIT_REPLY';
    return this.#resultOf(probe, code);
  }

  async #check(): Promise<KitCheck> {
    const { commandTimeoutMs, optionWarnings, endpoints } = this.#deps;
    const until = eventLoopTimeMs() + commandTimeoutMs;
    const probe = await this.#probe();
    const warnings = [...optionWarnings, ...transportWarnings(endpoints()), ...this.#slowness(probe)];
    const refusal = refusalIn(probe.error);
    if (probe.error === undefined || refusal !== undefined) {
      warnings.push(...(await inspectServers(probe.masters, Math.max(1, until - eventLoopTimeMs()))));
    }
    // While a node refuses commands, none may be sent that would show its role.
    if (refusal?.message.startsWith('READONLY') === true) warnings.push(REPLICA);
    return { ...this.#resultOf(probe, messageOf(probe.error)), warnings: [...new Set(warnings)] };
  }

  #probe(): Promise<Probe> {
    const { connection, keys, commandTimeoutMs, closing } = this.#deps;
    if (closing.aborted) return Promise.resolve({ ...MEMORY, error: closedError() });
    if (connection === undefined) return Promise.resolve(MEMORY);
    this.#probing ??= probeMasters(connection, keys, commandTimeoutMs).finally(() => {
      this.#probing = undefined;
    });
    return this.#probing;
  }

  #resultOf({ latencyMs, error }: Probe, shownError: string): Omit<KitCheck, 'warnings'> {
    const { connection } = this.#deps;
    if (error !== undefined) return { ok: false, mode: connection?.mode ?? 'memory', error: shownError };
    return connection === undefined
      ? { ok: true, mode: 'memory' }
      : { ok: true, mode: connection.mode, latencyMs };
  }

  #slowness({ latencyMs, error }: Probe): readonly string[] {
    const { commandTimeoutMs } = this.#deps;
    if (error !== undefined || latencyMs <= commandTimeoutMs * SLOW_SHARE) return [];
    return [`Redis took ${latencyMs} ms to answer, of a commandTimeout of ${commandTimeoutMs} ms`];
  }
}

function messageOf(error: unknown): string {
  const { message, name } = asError(error);
  return message === '' ? name : message;
}
