import type { OutgoingHttpHeaders } from 'node:http';
import type { Fill } from '../store/fill.ts';
import type { CachedResponse } from './cached-response.ts';
import type { ClientContext } from './client-response.ts';
import type { HandlerControls } from './handler-controls.ts';
import type { MadeHead } from './made.ts';
import type { PartTarget } from './part-target.ts';

/** Takes what becomes of a captured response. */
export type ResponseFill = Pick<
  Fill<CachedResponse>,
  'store' | 'endAsHitForMiss' | 'release' | 'abandon' | 'fallBackOn'
>;

/** What a response is captured for. */
export interface CaptureContext extends ClientContext {
  readonly fill: ResponseFill;
  /** Whether it is to take the place of what is stale, for no client of its own. */
  readonly isRefresh: boolean;
  /** Where a 206 is stored; undefined for a request that asked for no part. */
  readonly part: PartTarget | undefined;
  readonly controls: HandlerControls;
  /** Why this request's response is not stored, besides what holds for all; undefined when it may be. */
  reasonNotToStore?(head: MadeHead): string | undefined;
  /** By what a response with these tags and these headers is invalidated, besides by its place. */
  namesOf(tags: readonly string[], headers: OutgoingHttpHeaders): readonly string[];
  stored(bytes: number, response: CachedResponse): void;
  skipped(reason: string): void;
  /** A complete 200 cannot be stored. */
  wholeSkipped(): void;
  failed(error: unknown): void;
}
