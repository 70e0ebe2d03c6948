import type { Reporter } from '../base/reporter.ts';
import type { WorkQueueDeps } from '../waiting/work-queue.ts';
import { type Background, type BackgroundOptions, JobQueue } from './background.ts';

export interface BackgroundMethods {
  /** Creates a queue for jobs that a response does not wait for. The jobs run in this process and need no Redis. */
  background(options?: BackgroundOptions): Background;
}

export function backgroundFeature(kit: WorkQueueDeps & { readonly reporter: Reporter }): BackgroundMethods {
  return { background: (options = {}) => new JobQueue(options, kit) };
}
