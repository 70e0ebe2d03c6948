import { LineCipher } from './line-cipher.ts';
import {
  type DataChanges,
  type DataParts,
  PLAIN,
  packData,
  SEALED,
  SEALED_WHOLE,
  unpackData,
} from './operations/data.ts';
import { isInLines, type LineChange, lineStart, textOf } from './operations/lines.ts';

/** The keys of an object with the JSON of their values; undefined for a key to delete. */
export type Entries = ReadonlyMap<string, string | undefined>;

/** The two objects of a session, or changes of these objects. */
export type SessionEntries = Readonly<Record<keyof DataParts, Entries>>;

/** The JSON of the two objects of a session. */
interface OpenedData extends DataParts {
  /** Whether a save can change single keys; false for data of an earlier version of the kit, or of an earlier key. */
  readonly isCurrent: boolean;
}

/** Encrypts the stored data of sessions, or leaves it plain. `handle` is the handle of the session. */
export interface Seal {
  /** Returns the data to store, and its size without encryption. */
  close(entries: SessionEntries, handle: string): { readonly data: Buffer; readonly size: number };
  /** Returns changes of stored data. */
  changesOf(entries: SessionEntries, handle: string): DataChanges;
  /** Returns undefined for data that this seal cannot open. With encryption, data opens with its own handle only. */
  open(data: Buffer, handle: string): OpenedData | undefined;
}

/** No encryption. */
export const noSeal: Seal = {
  close(entries) {
    const parts = { meta: textOf(plainLines(entries.meta)), content: textOf(plainLines(entries.content)) };
    const data = packData(PLAIN, 0, parts);
    return { data, size: data.length - 1 };
  },
  changesOf({ meta, content }) {
    return { format: PLAIN, meta: plainLines(meta), content: plainLines(content) };
  },
  open(data) {
    const parts = data[0] === PLAIN ? unpackData(data, 'utf8') : undefined;
    if (parts === undefined) return undefined;
    const { meta, content } = parts;
    return { meta, content, isCurrent: isInLines(meta) && isInLines(content) };
  },
};

function plainLines(entries: Entries): LineChange[] {
  const lines: LineChange[] = [];
  for (const [name, value = ''] of entries) lines.push({ start: lineStart(name), value });
  return lines;
}

/**
 * Encryption of each line by itself. The first key encrypts, all keys decrypt. Plain data is not opened: otherwise an
 * attacker who can write to Redis could forge sessions.
 */
export function aesSeal(keys: readonly Uint8Array[]): Seal {
  const [newest, ...earlier] = keys.map((key) => new LineCipher(key));
  if (newest === undefined) throw new TypeError('a seal needs a key');
  return new AesSeal(newest, earlier);
}

class AesSeal implements Seal {
  readonly #newest: LineCipher;
  readonly #earlier: readonly LineCipher[];

  constructor(newest: LineCipher, earlier: readonly LineCipher[]) {
    this.#newest = newest;
    this.#earlier = earlier;
  }

  close({ meta, content }: SessionEntries, handle: string): { readonly data: Buffer; readonly size: number } {
    const size = 6 + plainBytes(meta) + plainBytes(content);
    const parts = {
      meta: textOf(this.#linesOf(meta, placeOf('meta', handle))),
      content: textOf(this.#linesOf(content, placeOf('content', handle))),
    };
    return { data: packData(SEALED, size, parts), size };
  }

  changesOf({ meta, content }: SessionEntries, handle: string): DataChanges {
    return {
      format: SEALED,
      meta: this.#changesOf(meta, placeOf('meta', handle)),
      content: this.#changesOf(content, placeOf('content', handle)),
    };
  }

  open(data: Buffer, handle: string): OpenedData | undefined {
    if (data[0] === SEALED_WHOLE) return this.#openWhole(data.subarray(1), handle);
    const parts = data[0] === SEALED ? unpackData(data) : undefined;
    const meta = this.#openText(parts?.meta, placeOf('meta', handle));
    const content = this.#openText(parts?.content, placeOf('content', handle));
    if (meta === undefined || content === undefined) return undefined;
    const isCurrent = meta.isCurrent && content.isCurrent;
    return { meta: meta.text, content: content.text, isCurrent };
  }

  #linesOf(entries: Entries, place: string): LineChange[] {
    return Array.from(entries, ([name, value]) =>
      value === undefined
        ? { start: this.#newest.startOf(name, place), value: '' }
        : this.#newest.close(name, value, place),
    );
  }

  /** Also deletes the lines of the same names that other processes have sealed with earlier keys. */
  #changesOf(entries: Entries, place: string): LineChange[] {
    const others = this.#earlier.flatMap((cipher) =>
      Array.from(entries.keys(), (name) => ({ start: cipher.startOf(name, place), value: '' })),
    );
    return [...this.#linesOf(entries, place), ...others];
  }

  #openText(text = '', place: string): { readonly text: string; readonly isCurrent: boolean } | undefined {
    const lines: string[] = [];
    let isCurrent = true;
    try {
      for (const [hash, value] of Object.entries(JSON.parse(text) as Record<string, unknown>)) {
        const sealed = Buffer.from(String(value), 'base64url');
        let line = this.#newest.open(hash, sealed, place);
        if (line === undefined) {
          isCurrent = false;
          line = firstOf(this.#earlier, (cipher) => cipher.open(hash, sealed, place));
        }
        if (line === undefined) return undefined;
        lines.push(line);
      }
    } catch {
      return undefined;
    }
    return { text: lines.length === 0 ? '{}' : `{\n${lines.join(',\n')}}`, isCurrent };
  }

  /** Opens data of an earlier version of the kit, which is encrypted as a whole. */
  #openWhole(sealed: Buffer, handle: string): OpenedData | undefined {
    const plain = firstOf([this.#newest, ...this.#earlier], (cipher) => cipher.openBytes(sealed, handle));
    const parts = plain && unpackData(Buffer.concat([Buffer.of(PLAIN), plain]), 'utf8');
    return parts && { meta: parts.meta, content: parts.content, isCurrent: false };
  }
}

function placeOf(part: keyof DataParts, handle: string): string {
  return `${handle} ${part}`;
}

/** The bytes of plain lines, each with a comma and a line feed. */
function plainBytes(entries: Entries): number {
  let bytes = 0;
  for (const [name, value = ''] of entries) bytes += Buffer.byteLength(lineStart(name) + value) + 1;
  return bytes;
}

/** The first result that is not undefined. */
function firstOf<Item, Result>(
  items: readonly Item[],
  find: (item: Item) => Result | undefined,
): Result | undefined {
  for (const item of items) {
    const result = find(item);
    if (result !== undefined) return result;
  }
  return undefined;
}
