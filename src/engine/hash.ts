import { compareUtf8 } from '../base/utf8.ts';
import type { Collection } from './collection.ts';

/** Bytes of a field besides its name and value: two string objects and the slots of the Map. */
const FIELD_BYTES = 100;

/** A Redis hash for the in-memory implementations. */
export class Hash implements Collection {
  /** Values are Latin-1 strings, which take one byte per byte. */
  readonly #values = new Map<string, string>();
  #bytes = 0;

  get size(): number {
    return this.#values.size;
  }

  get isEmpty(): boolean {
    return this.#values.size === 0;
  }

  get byteLength(): number {
    return this.#bytes;
  }

  /** Sorted, since Redis keeps the fields of a hash in no order. */
  pack(): Buffer {
    const entries = [...this.#values].sort(([one], [other]) => compareUtf8(one, other));
    return Buffer.from(
      JSON.stringify(entries.map(([field, value]) => [field, fromLatin1(value).toString()])),
    );
  }

  has(field: string): boolean {
    return this.#values.has(field);
  }

  get(field: string): Buffer | undefined {
    const value = this.#values.get(field);
    return value === undefined ? undefined : fromLatin1(value);
  }

  entries(): readonly (readonly [field: string, value: Buffer])[] {
    return Array.from(this.#values, ([field, value]) => [field, fromLatin1(value)]);
  }

  /** The bytes that a field takes; 0 for an absent field. */
  bytesOf(field: string): number {
    const value = this.#values.get(field);
    return value === undefined ? 0 : bytesOfField(field, value.length);
  }

  set(field: string, value: Buffer): void {
    this.#bytes += bytesOfField(field, value.length) - this.bytesOf(field);
    this.#values.set(field, value.toString('latin1'));
  }

  delete(field: string): boolean {
    this.#bytes -= this.bytesOf(field);
    return this.#values.delete(field);
  }
}

/** A field takes two bytes per character, as V8 stores text that is not Latin-1. */
export function bytesOfField(field: string, valueBytes: number): number {
  return field.length * 2 + valueBytes + FIELD_BYTES;
}

function fromLatin1(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}
