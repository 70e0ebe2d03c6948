import { callListener } from '../base/emitter.ts';
import { asError } from '../base/errors.ts';
import type { Reporter } from '../base/reporter.ts';
import type { WorkSettings } from './work-options.ts';

/** Returns a function that reports lost work: as an `error` event, and to the app's `onError`. */
export function lossReporter<Lost>(
  feature: string,
  reporter: Reporter,
  onError: WorkSettings<Lost>['onError'],
): (error: Error, lost: Lost) => void {
  const failed = (error: unknown) => reporter.failure(feature, asError(error));
  return (error, lost) => {
    failed(error);
    callListener(() => onError?.(error, lost), failed);
  };
}
