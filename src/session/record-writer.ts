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

/** The whole data to store. */
interface WholeData {
  readonly entries: SessionEntries;
  /** The revision at which an update stores it; 0 for any revision. */
  readonly revision: number;
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
    const data = this.#close(entriesOf(payload), handle);
    const idle = idleOf(payload.meta, this.#settings);
    return this.#write(key, { mode: 'create', idle, owner, data, revision: 0 }, deadline);
  }

  /** Rejects when the session would be too large. */
  async update(
    { handle, key }: SessionNames,
    { stored, payload, owner }: SessionUpdate,
    deadline: Deadline | undefined,
  ): Promise<SessionWriteReply> {
    const { conflicts, seal, maxBytes } = this.#settings;
    const merges = conflicts === 'merge';
    const changes = changesOf(stored, payload);
    const args = {
      mode: 'update',
      idle: idleOf(payload.meta, this.#settings),
      // A request that did not change the cookie must not undo the change of another request.
      idleBefore: merges && !changes.meta.has('cookie') ? stored.idle : undefined,
      owner,
      changes: seal.changesOf(changes, handle),
    } as const;
    let whole: WholeData | undefined;
    if (!merges || !stored.isCurrent) {
      whole = { entries: entriesOf(payload), revision: merges ? stored.revision : 0 };
    }
    for (;;) {
      const data = whole === undefined ? NO_DATA : this.#close(whole.entries, handle);
      const reply = await this.#write(key, { ...args, data, revision: whole?.revision ?? 0 }, deadline);
      if (reply.outcome === 'too-large') checkSize(reply.size, maxBytes);
      if (reply.outcome !== 'unmergeable') return reply;
      // A process with an earlier version of the kit has saved the session. Each round needs another such save.
      const theirs = reply.current && parsePayload(seal.open(reply.current, handle));
      // Data that cannot be read is replaced.
      const entries = theirs ? withChanges(entriesOf(theirs), changes) : entriesOf(payload);
      whole = { entries, revision: reply.revision };
    }
  }

  #close(entries: SessionEntries, handle: string): Buffer {
    const { data, size } = this.#settings.seal.close(entries, handle);
    checkSize(size, this.#settings.maxBytes);
    return data;
  }

  #write(
    key: string,
    record: Omit<SessionWriteArgs, 'absolute' | 'touchAfter' | 'maxBytes'>,
    deadline: Deadline | undefined,
  ): Promise<SessionWriteReply> {
    const { absolute, touchAfter, maxBytes } = this.#settings;
    return this.#engine.run(sessionWrite, [key], { ...record, absolute, touchAfter, maxBytes }, deadline);
  }
}
