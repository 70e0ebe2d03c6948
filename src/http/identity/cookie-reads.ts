/**
 * Counts how often cookies were read, without the reads that cookie-parser makes when it is mounted below: it reads the
 * Cookie field, assigns an empty `req.cookies` and an empty `req.signedCookies`, and then replaces each with what it
 * made from the other. What it read is then in the properties, whose reads are counted.
 */
export class CookieReads {
  /** Reads since the last assignment. */
  #header = 0;
  #parsed = 0;
  /** Reads before the last assignment that were not the parser's. */
  #counted = 0;
  /** `begun`: an empty `req.cookies` was assigned, and nothing else has happened since. */
  #parser: 'none' | 'begun' | 'found' = 'none';

  get any(): boolean {
    return this.#counted + this.#header + this.#parsed > 0;
  }

  readHeader(): void {
    this.#header++;
    this.#interrupt();
  }

  readParsed(): void {
    this.#parsed++;
    this.#interrupt();
  }

  assign(name: 'cookies' | 'signedCookies', value: unknown): void {
    if (this.#parser === 'none' && name === 'cookies' && isBlank(value)) {
      this.#parser = 'begun';
      return;
    }
    if (this.#parser === 'begun' && name === 'signedCookies' && isBlank(value)) {
      this.#parser = 'found';
      this.#count({ headerIsParsers: true });
      return;
    }
    this.#interrupt();
    this.#count({ headerIsParsers: false });
  }

  #interrupt(): void {
    if (this.#parser === 'begun') this.#parser = 'none';
  }

  #count({ headerIsParsers }: { readonly headerIsParsers: boolean }): void {
    const ofParser = this.#parser === 'found' ? 1 : 0;
    this.#counted += Math.max(0, this.#parsed - ofParser);
    this.#counted += Math.max(0, this.#header - (headerIsParsers ? 1 : 0));
    this.#header = 0;
    this.#parsed = 0;
  }
}

/** As cookie-parser begins: without a prototype and without a cookie. */
function isBlank(value: unknown): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.getPrototypeOf(value) === null &&
    Object.keys(value).length === 0
  );
}
