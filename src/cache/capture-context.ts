import type { CachedResponse } from './cached-response.ts';
import type { ClientContext } from './client-response.ts';
import type { Entry } from './entry.ts';
import type { Fill } from './fill.ts';
import type { HandlerControls } from './handler-controls.ts';
import type { PartTarget } from './partial-content.ts';

/** What a response is captured for. */
export interface CaptureContext extends ClientContext {
  readonly fill: Fill<CachedResponse>;
  /** Whether it is to take the place of what is stale, for no client of its own. */
  readonly isRefresh: boolean;
  /** The stale response that the handler was asked to confirm. */
  readonly confirms: Entry<CachedResponse> | undefined;
  /** Where a 206 is stored; undefined for a request that asked for no part. */
  readonly part: PartTarget | undefined;
  readonly controls: HandlerControls;
  /** How a tag stands among what purges. */
  nameOf(tag: string): string;
  stored(bytes: number, response: CachedResponse): void;
  skipped(reason: string): void;
  /** A complete 200 cannot be stored. */
  wholeSkipped(): void;
  failed(error: unknown): void;
}
