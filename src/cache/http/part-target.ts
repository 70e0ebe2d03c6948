import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { contentRangeOf } from '../../http/message/byte-range.ts';
import { haveSameStrongValidator } from '../../http/message/conditional.ts';
import type { Lifetime } from '../store/entry.ts';
import type { Fill, NewEntry } from '../store/fill.ts';
import { type CachedResponse, cachedResponse, headersOf, type StoredPart } from './cached-response.ts';
import { type MadeHead, madeResponse } from './made.ts';
import type { ResponsePlace } from './response-place.ts';

/** A request for a part, and what is made for it. */
interface PartMaking {
  readonly req: IncomingMessage;
  /** Where the part is stored. */
  readonly place: ResponsePlace;
  /** The part that is stored there, which is fresh. */
  readonly stored: CachedResponse | undefined;
  /** The fill of the whole, for which other requests may wait. */
  readonly fill: Fill<CachedResponse>;
  /** Whether the handler sees the conditions of the request. */
  readonly areLeft: boolean;
}

/** How a response is stored; its tags are names. */
type Storing = Pick<NewEntry<CachedResponse>, 'lifetime' | 'names' | 'validation'>;

/** A response on its way to the store. */
interface PartOrWhole {
  readonly response: CachedResponse;
  readonly of: Storing;
  readonly fill: Fill<CachedResponse>;
}

/** Where the 206 of a handler is stored, and what it is combined with. */
export class PartTarget {
  readonly #making: PartMaking;
  /** A 206 to such a request may leave out what the client has already (RFC 9110, section 15.3.7). */
  readonly #hasIfRange: boolean;
  #isMade = false;

  constructor(making: PartMaking) {
    this.#making = making;
    this.#hasIfRange = making.req.headers['if-range'] !== undefined;
  }

  /** Whether the handler answers with a part that can be stored. */
  get isMade(): boolean {
    return this.#isMade;
  }

  /**
   * The head by which the handler's response is judged: a 206 is stored as an incomplete 200, by the same rules (RFC 9111,
   * section 3.3). Requests for the whole do not wait for it.
   */
  judgedHead(head: MadeHead): MadeHead {
    const { stored, fill, areLeft } = this.#making;
    if (head.status !== 206 || rangeIn(head) === undefined) return head;
    if (this.#hasIfRange && stored === undefined) return head;
    if (!this.#isMade) {
      this.#isMade = true;
      if (areLeft) fill.release();
      else fill.endAsHitForMiss();
    }
    return headOfWhole(head);
  }

  /** The new part, with the stored one where both are of one representation: complete once no byte is missing. */
  combine(response: CachedResponse, { lifetime, names }: Storing, maxBody: number): PartOrWhole | undefined {
    const { part } = response;
    const { stored, place, fill } = this.#making;
    if (part === undefined) return undefined;
    const own = { ...response, part: { ...part, tags: names } };
    const together = stored && combined(stored, own, maxBody);
    if (together === undefined && this.#hasIfRange) return undefined;
    const made = together ?? own;
    const { start, end, length, tags: all } = together?.part ?? own.part;
    if (start === 0 && end === length - 1) {
      const whole = { ...made, status: 200, part: undefined };
      return { response: whole, of: { lifetime, names: all }, fill: fill.unawaited() };
    }
    const of = { lifetime: lifetimeOfPart(lifetime), names: all };
    return { response: made, of, fill: fill.unawaited(place) };
  }
}

/** What is stored of a complete 206; undefined where its content is not the range that it names. */
export function partResponse(
  head: MadeHead,
  body: Buffer,
  asked: IncomingHttpHeaders,
  hasTtl: boolean,
): CachedResponse | undefined {
  const range = rangeIn(head);
  if (range === undefined || body.length !== range.end - range.start + 1) return undefined;
  const response = madeResponse(headOfWhole(head), body, asked, hasTtl);
  return { ...response, status: 206, part: { ...range, tags: [] } };
}

function rangeIn({ headers }: MadeHead): ReturnType<typeof contentRangeOf> {
  return contentRangeOf(String(headers['content-range'] ?? ''));
}

function headOfWhole(head: MadeHead): MadeHead {
  const { 'content-range': _, ...headers } = head.headers;
  const set = head.own.set.filter(([name]) => name.toLowerCase() !== 'content-range');
  return { ...head, status: 200, headers, own: { ...head.own, set } };
}

/** A part is served only while it is fresh, so that the store keeps it no longer. */
function lifetimeOfPart(lifetime: Lifetime): Lifetime {
  return { ...lifetime, staleWhileRevalidateMs: 0, staleIfErrorMs: 0, validatableMs: 0 };
}

/** RFC 9111, section 3.4. Undefined where the two may not be combined, or would not be one part. */
function combined(
  stored: CachedResponse,
  update: CachedResponse,
  maxBody: number,
): CachedResponse | undefined {
  const [one, other] = [stored.part, update.part];
  if (one === undefined || other === undefined || !areOfOneRepresentation(stored, update)) return undefined;
  if (one.length !== other.length || one.start > other.end + 1 || other.start > one.end + 1) return undefined;
  const [start, end] = [Math.min(one.start, other.start), Math.max(one.end, other.end)];
  if (end - start + 1 > maxBody) return undefined;
  const body = Buffer.allocUnsafeSlow(end - start + 1);
  stored.body.copy(body, one.start - start);
  update.body.copy(body, other.start - start);
  const renewed = headersOf(update);
  const names = new Set(renewed.map(([name]) => name.toLowerCase()));
  const kept = headersOf(stored).filter(([name]) => !names.has(name.toLowerCase()));
  const removed = [...new Set([...stored.removed, ...update.removed])];
  const part: StoredPart = {
    start,
    end,
    length: one.length,
    tags: [...new Set([...one.tags, ...other.tags])],
  };
  const isForAll = stored.isForAll && update.isForAll;
  return cachedResponse({ ...update, headers: [...kept, ...renewed], removed, isForAll, body, part });
}

function areOfOneRepresentation(stored: CachedResponse, update: CachedResponse): boolean {
  const [one, other] = [stored, update].map(({ vary, flat }) => {
    const at = flat.findIndex((name, index) => index % 2 === 0 && /^content-encoding$/i.test(String(name)));
    return JSON.stringify([vary, at === -1 ? null : flat[at + 1]]);
  });
  return one === other && haveSameStrongValidator(stored, update);
}
