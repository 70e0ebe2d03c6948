import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import { changesOf, entriesOf, withChanges } from './merge.ts';
import type { SessionRecord } from './operations/format.ts';
import { type SessionWriteArgs, type SessionWriteReply, sessionWrite } from './operations/write.ts';
import { checkSize, parsePayload, type SessionPayload } from './payload.ts';
import { idleOf, type RecordSettings } from './record-settings.ts';
import type { SessionEntries } from './seal.ts';

/** A session as its request last loaded or saved it. */
export interface StoredSession
  extends SessionPayload,
    Pick<SessionRecord, 'created' | 'idle' | 'revision' | 'owner'> {
  readonly names: SessionNames;
  /** Whether a save can change single keys of the stored data. */
  readonly isCurrent: boolean;
}

/** The handle and the Redis key of a session. */
export interface SessionNames {
  readonly handle: string;
  readonly key: string;
}

interface SessionUpdate {
  readonly stored: StoredSession;
  readonly payload: SessionPayload;
  /** The hashed id of the user, or `KEEP_OWNER`. */
  readonly owner: string;
}

const NO_DATA = Buffer.alloc(0);

/** Writes sessions: new ones as a whole, and of stored ones the keys that a request has changed. */
export class RecordWriter {
  readonly #engine: Engine;
  readonly #settings: RecordSettings;

  constructor(engine: Engine, settings: RecordSettings) {
    this.#engine = engine;
    this.#settings = settings;
  }

  create(
    { handle, key }: SessionNames,
    payload: SessionPayload,
    owner: string,
    deadline: Deadline | undefined,
  ): Promise<SessionWriteReply> {
    const { absolute, touchAfter, maxBytes } = this.#settings;
    const data = this.#close(entriesOf(payload), handle);
    const idle = idleOf(payload.meta, this.#settings);
    const args = { mode: 'create', idle, absolute, touchAfter, maxBytes, owner, data, revision: 0 } as const;
    return this.#engine.run(sessionWrite, [key], args, deadline);
  }

  /** Rejects when the session would be too large. */
  async update(
    { stored, payload, owner }: SessionUpdate,
    deadline: Deadline | undefined,
  ): Promise<SessionWriteReply> {
    const { handle, key } = stored.names;
    const { conflicts, seal, absolute, touchAfter, maxBytes } = this.#settings;
    const merges = conflicts === 'merge';
    const changes = changesOf(stored, payload);
    const mergesInScript = merges && stored.isCurrent;
    const args: SessionWriteArgs = {
      mode: 'update',
      idle: idleOf(payload.meta, this.#settings),
      // A request that did not change the cookie must not undo the change of another request.
      idleBefore: merges && !changes.meta.has('cookie') ? stored.idle : undefined,
      absolute,
      touchAfter,
      maxBytes,
      owner,
      data: mergesInScript ? NO_DATA : this.#close(entriesOf(payload), handle),
      revision: merges ? stored.revision : 0,
      changes: seal.changesOf(changes, handle),
    };
    let reply = await this.#engine.run(sessionWrite, [key], args, deadline);
    // A process with an earlier version of the kit has saved the session. Each round needs another such save.
    while (reply.outcome === 'unmergeable') {
      const theirs = reply.current && parsePayload(seal.open(reply.current, handle));
      // Data that cannot be read is replaced.
      const merged = theirs ? withChanges(entriesOf(theirs), changes) : entriesOf(payload);
      const whole = { ...args, data: this.#close(merged, handle), revision: reply.revision };
      reply = await this.#engine.run(sessionWrite, [key], whole, deadline);
    }
    if (reply.outcome === 'too-large') checkSize(reply.size, maxBytes);
    return reply;
  }

  #close(entries: SessionEntries, handle: string): Buffer {
    const { data, size } = this.#settings.seal.close(entries, handle);
    checkSize(size, this.#settings.maxBytes);
    return data;
  }
}
