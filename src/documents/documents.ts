import { setTimeout as pause } from 'node:timers/promises';
import { describe } from '../base/describe.ts';
import { ConfigError, RedisKitError } from '../base/errors.ts';
import type { FailurePolicies } from '../base/failure-policies.ts';
import { checkedIdentity } from '../base/identity.ts';
import { type Json, jsonOf, parseJson } from '../base/json.ts';
import type { Keys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import { checkBytes } from '../base/size-options.ts';
import { isThenable } from '../base/thenable.ts';
import { freshToken } from '../base/token.ts';
import type { Engine } from '../engine/port.ts';
import { corruptValue } from '../engine/reply.ts';
import { documentRead } from './operations/read.ts';
import { ANY_REVISION, type DocumentWriteReply, documentWrite } from './operations/write.ts';
import { type DocumentsOptions, type DocumentsSettings, readDocumentsOptions } from './options.ts';
import { packDocument } from './stored-document.ts';
import type { Turns } from './turns.ts';

/**
 * JSON values under ids. Each call is one command, except `update`. A call rejects while Redis is unavailable, and for a
 * document that a newer version of the kit has written.
 */
export interface Documents<T> {
  /** Resolves to the document, or to undefined. */
  get(id: string): Promise<T | undefined>;
  /** Stores the document. Rejects with `ERR_REDIS_KIT_TOO_LARGE` above `maxBytes`, and for a value that is no JSON. */
  set(id: string, value: T): Promise<void>;
  /** Stores the document if none exists. Resolves to false, and changes nothing, if one exists. */
  setIfAbsent(id: string, value: T): Promise<boolean>;
  /**
   * Replaces the document with the result of `change`, and resolves to that result. `change` receives the document, or
   * undefined if none exists, and may return a promise. If it returns undefined, the document is deleted. If the
   * document has changed in the meantime, `change` is called again with the new one, so that no change is lost. Rejects
   * with `ERR_REDIS_KIT_CONFLICT` after 100 attempts, and with the error that `change` throws.
   */
  update(
    id: string,
    change: (current: T | undefined) => T | undefined | Promise<T | undefined>,
  ): Promise<T | undefined>;
  /** Deletes the document. Resolves to whether it existed. */
  delete(id: string): Promise<boolean>;
}

export interface DocumentsDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
  readonly failurePolicies: FailurePolicies;
  /** The turns of all updates of this process, by key. */
  readonly turns: Turns;
}

interface StoredDocument {
  readonly value: Json | undefined;
  /** Empty for an absent document. */
  readonly revision: string;
}

/** One of the writers that conflict with each other always succeeds: this many attempts fail only in a crowd. */
const MAX_ATTEMPTS = 100;

const LONGEST_PAUSE_MS = 100;

type Change<T> = (current: T | undefined) => T | undefined | Promise<T | undefined>;

export class KitDocuments<T> implements Documents<T> {
  readonly #name: string;
  readonly #settings: DocumentsSettings;
  readonly #deps: DocumentsDeps;

  constructor(name: string, options: DocumentsOptions, deps: DocumentsDeps) {
    this.#name = checkedIdentity('kit.documents: the name', name);
    this.#settings = readDocumentsOptions(options);
    this.#deps = deps;
    deps.failurePolicies.record('document', 'reject');
  }

  async get(id: string): Promise<T | undefined> {
    const { value } = await this.#read(this.#keyOf('get', id));
    return value as T | undefined;
  }

  async set(id: string, value: T): Promise<void> {
    await this.#write(this.#keyOf('set', id), this.#jsonOf('set', value), ANY_REVISION);
  }

  async setIfAbsent(id: string, value: T): Promise<boolean> {
    return this.#write(this.#keyOf('setIfAbsent', id), this.#jsonOf('setIfAbsent', value), '');
  }

  async update(id: string, change: Change<T>): Promise<T | undefined> {
    const key = this.#keyOf('update', id);
    if (typeof change !== 'function') {
      throw new ConfigError(`kit.documents.update: the change is ${describe(change)}; it must be a function`);
    }
    return this.#deps.turns.take(key, async (endTurn) => {
      for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
        if (attempt > 1) await pauseBefore(attempt);
        const { value, revision } = await this.#read(key);
        const result = change(value as T | undefined);
        // An asynchronous change may take any time, and may update the document itself.
        if (isThenable(result)) endTurn();
        const changed = await result;
        const json = changed === undefined ? '' : this.#jsonOf('update', changed);
        if (json === '' && revision === '') return undefined;
        if (await this.#write(key, json, revision)) return changed;
      }
      throw new RedisKitError(
        'ERR_REDIS_KIT_CONFLICT',
        `kit.documents.update: the document was changed during each of ${MAX_ATTEMPTS} attempts, so it was not updated; do not write it inside its own \`change\`, split it, or update it under a lock of kit.locks`,
      );
    });
  }

  async delete(id: string): Promise<boolean> {
    return this.#write(this.#keyOf('delete', id), '', ANY_REVISION);
  }

  #keyOf(method: string, id: unknown): string {
    return this.#deps.keys.document(this.#name, checkedIdentity(`kit.documents.${method}: the id`, id));
  }

  #jsonOf(method: string, value: unknown): string {
    const what = `kit.documents.${method}: the document`;
    const json = jsonOf(what, value);
    checkBytes(what, json, this.#settings.maxBytes, 'store less in it, or raise `maxBytes`');
    return json;
  }

  async #read(key: string): Promise<StoredDocument> {
    const { found, revision, json } = await this.#deps.engine.run(documentRead, [key], undefined);
    const value = json === null ? undefined : parseJson(json);
    if (found === 'corrupt' || (json !== null && value === undefined)) this.#reportCorrupt(key);
    return { value, revision };
  }

  /** Stores the JSON, or deletes the document if it is empty. Resolves to false for another revision than expected. */
  async #write(key: string, json: string, expected: string): Promise<boolean> {
    const document = json === '' ? '' : packDocument(freshToken(), json);
    const args = { expected, ttl: this.#settings.ttl, document };
    const { found, isDone }: DocumentWriteReply = await this.#deps.engine.run(documentWrite, [key], args);
    if (found === 'corrupt') this.#reportCorrupt(key);
    return isDone;
  }

  #reportCorrupt(key: string): void {
    this.#deps.reporter.failure('document', corruptValue(`the document under ${key}`));
  }
}

/** Waits for a random time, which is longer the more attempts have failed, so that few writers try at the same time. */
function pauseBefore(attempt: number): Promise<void> {
  // Unlike an alarm of the kit, this timer keeps the process alive: the caller waits, and `memory:` has no socket.
  return pause(Math.random() * Math.min(2 ** attempt, LONGEST_PAUSE_MS));
}
