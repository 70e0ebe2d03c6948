/**
 * Counts the handler's reads of cookies, without those of cookie-parser. cookie-parser reads the Cookie field, assigns
 * an empty `req.cookies` and an empty `req.signedCookies`, and then replaces each with cookies that it derives from the
 * other. From then on the cookies are in these two properties, whose reads are counted.
 */
export class CookieReads {
  /** Reads of the Cookie field since cookies were last assigned. */
  #header = 0;
  #parsed = 0;
  /** Reads before cookies were last assigned, without those of cookie-parser. */
  #counted = 0;
  /** `started`: an empty `req.cookies` was assigned, and nothing else has happened since. */
  #parser: 'none' | 'started' | 'found' = 'none';

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
      this.#parser = 'started';
      return;
    }
    if (this.#parser === 'started' && name === 'signedCookies' && isBlank(value)) {
      this.#parser = 'found';
      this.#count({ isHeaderReadByParser: true });
      return;
    }
    this.#interrupt();
    this.#count({ isHeaderReadByParser: false });
  }

  #interrupt(): void {
    if (this.#parser === 'started') this.#parser = 'none';
  }

  #count({ isHeaderReadByParser }: { readonly isHeaderReadByParser: boolean }): void {
    const parserReads = this.#parser === 'found' ? 1 : 0;
    this.#counted += Math.max(0, this.#parsed - parserReads);
    this.#counted += Math.max(0, this.#header - (isHeaderReadByParser ? 1 : 0));
    this.#header = 0;
    this.#parsed = 0;
  }
}

/** The object that cookie-parser assigns first: without a prototype and without cookies. */
function isBlank(value: unknown): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.getPrototypeOf(value) === null &&
    Object.keys(value).length === 0
  );
}
