import type { CachedResponse } from './cached-response.ts';
import type { Conditions } from './conditions.ts';
import type { Entry } from './entry.ts';
import type { Fill } from './fill.ts';
import type { HandlerControls } from './handler-controls.ts';
import type { CacheSettings } from './options.ts';

/** What a response is captured for. */
export interface CaptureContext {
  readonly settings: CacheSettings;
  readonly key: string;
  readonly fill: Fill<CachedResponse>;
  /** What is sent instead of a server error. */
  readonly fallback: Entry<CachedResponse> | undefined;
  /** Whether it is to take the place of what is stale, for no client of its own. */
  readonly isRefresh: boolean;
  /** The stale response that the handler was asked to confirm. */
  readonly confirms: Entry<CachedResponse> | undefined;
  /** What the client wants only under conditions. */
  readonly conditions: Conditions;
  readonly controls: HandlerControls;
  readonly now: () => number;
  /** Why the handler was asked, as Cache-Status has it. */
  readonly forwarded: string;
  /** How a tag stands among what purges. */
  nameOf(tag: string): string;
  /** What is stale was sent instead. */
  fellBack(): void;
  stored(bytes: number): void;
  skipped(reason: string): void;
  /** A complete 200 cannot be stored. */
  wholeSkipped(): void;
  failed(error: unknown): void;
}
