import type { ServerResponse } from 'node:http';
import { checkTags } from './shared-options.ts';

declare global {
  namespace Express {
    interface Locals {
      /** What a handler below `kit.cache` may say of its response. */
      cache: CacheControls;
    }
  }
}

/** `res.locals.cache`, below `kit.cache`. */
export interface CacheControls {
  /** What the response may be invalidated by, besides the option `tags`. */
  tag(...tags: string[]): void;
  /** The response is not to be stored. */
  noStore(): void;
}

/** What a handler said. */
export class HandlerControls implements CacheControls {
  readonly tags: string[] = [];
  mayStore = true;

  constructor() {
    // Handlers take them out of `res.locals.cache`.
    this.tag = this.tag.bind(this);
    this.noStore = this.noStore.bind(this);
  }

  tag(...tags: string[]): void {
    this.tags.push(...checkTags('res.locals.cache.tag: the tags', tags));
  }

  noStore(): void {
    this.mayStore = false;
  }
}

/** Connect has no `res.locals`. */
export function offerControls(res: ServerResponse & { locals?: Record<string, unknown> }): HandlerControls {
  const controls = new HandlerControls();
  res.locals ??= {};
  res.locals.cache = controls;
  return controls;
}
