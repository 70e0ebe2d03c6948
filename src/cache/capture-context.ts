import type { OutgoingHttpHeaders } from 'node:http';
import type { CachedResponse } from './cached-response.ts';
import type { ClientContext } from './client-response.ts';
import type { Entry } from './entry.ts';
import type { Fill } from './fill.ts';
import type { HandlerControls } from './handler-controls.ts';

/** What a response is captured for. */
export interface CaptureContext extends ClientContext {
  readonly fill: Fill<CachedResponse>;
  /** Whether it is to take the place of what is stale, for no client of its own. */
  readonly isRefresh: boolean;
  /** The stale response that the handler was asked to confirm. */
  readonly confirms: Entry<CachedResponse> | undefined;
  readonly controls: HandlerControls;
  /** By what a response with these tags and these headers is invalidated, besides by its place. */
  namesOf(tags: readonly string[], headers: OutgoingHttpHeaders): readonly string[];
  stored(bytes: number): void;
  skipped(reason: string): void;
  /** A complete 200 cannot be stored. */
  wholeSkipped(): void;
  failed(error: unknown): void;
}
