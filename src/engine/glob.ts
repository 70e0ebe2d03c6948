/*
 * The patterns of Redis (KEYS, PSUBSCRIBE): `*` is any bytes, `?` one byte, `[a-c]` one byte of a class, `[^a-c]` one byte
 * that is not of the class, and `\` takes the special meaning from the next byte. Redis compares bytes and not
 * characters, so that `?` matches no letter that has two bytes in UTF-8.
 */

/** Whether one byte matches. */
type ByteTest = (byte: number) => boolean;

/** `*`, which matches any number of bytes. */
const ANY_BYTES = Symbol('*');

const [BACKSLASH, CARET, HYPHEN, QUESTION, STAR, CLASS_START, CLASS_END] = [...Buffer.from('\\^-?*[]')];

export class Glob {
  readonly #parts: (ByteTest | typeof ANY_BYTES)[] = [];
  /** Whether every `[` has its `]`, and every `\` its byte. Redis also accepts patterns that are incomplete. */
  readonly isComplete: boolean;

  constructor(pattern: string) {
    const reader = new PatternReader(Buffer.from(pattern));
    while (!reader.isAtEnd) this.#parts.push(reader.next());
    this.isComplete = reader.isComplete;
  }

  /** Takes at most (length of the pattern) x (length of the text) steps, since it goes back to the last `*` only. */
  matches(text: string): boolean {
    const bytes = Buffer.from(text);
    let part = 0;
    let at = 0;
    /** The part after the last `*`, and the byte at which that part is tried next. */
    let retry: { readonly part: number; at: number } | undefined;
    while (at < bytes.length || part < this.#parts.length) {
      const test = this.#parts[part];
      const byte = bytes[at];
      if (test === ANY_BYTES) {
        part++;
        retry = { part, at: at + 1 };
      } else if (test !== undefined && byte !== undefined && test(byte)) {
        part++;
        at++;
      } else if (retry !== undefined && retry.at <= bytes.length) {
        part = retry.part;
        at = retry.at++;
      } else return false;
    }
    return true;
  }
}

class PatternReader {
  readonly #bytes: Buffer;
  #at = 0;
  isComplete = true;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  next(): ByteTest | typeof ANY_BYTES {
    const byte = this.#take();
    if (byte === STAR) return ANY_BYTES;
    if (byte === QUESTION) return () => true;
    if (byte === CLASS_START) return this.#class();
    return this.#literal(byte === BACKSLASH ? this.#escaped() : byte);
  }

  #take(): number | undefined {
    return this.#bytes[this.#at++];
  }

  /** The byte after a backslash. Redis takes a backslash at the end as itself. */
  #escaped(): number | undefined {
    if (!this.isAtEnd) return this.#take();
    this.isComplete = false;
    return BACKSLASH;
  }

  #literal(expected: number | undefined): ByteTest {
    return (byte) => byte === expected;
  }

  /** A class that is not closed ends with the pattern. */
  #class(): ByteTest {
    const isNegated = this.#bytes[this.#at] === CARET;
    if (isNegated) this.#at++;
    const tests: ByteTest[] = [];
    while (!this.isAtEnd && this.#bytes[this.#at] !== CLASS_END) tests.push(this.#classItem());
    if (this.isAtEnd) this.isComplete = false;
    else this.#at++;
    return (byte) => tests.some((test) => test(byte)) !== isNegated;
  }

  #classItem(): ByteTest {
    const first = this.#take() ?? 0;
    if (first === BACKSLASH && !this.isAtEnd) return this.#literal(this.#take());
    const last = this.#bytes[this.#at + 1];
    // As in Redis, a range may end with `]`, which then does not close the class.
    if (this.#bytes[this.#at] !== HYPHEN || last === undefined) return this.#literal(first);
    this.#at += 2;
    return (byte) => byte >= Math.min(first, last) && byte <= Math.max(first, last);
  }
}
