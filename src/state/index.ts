export { type StateMethods, stateFeature } from './feature.ts';
// `RequestState` is also the type of the property that is added to Express's type of requests.
export type { RequestState, StateMiddleware } from './middleware.ts';
export type { StateOptions } from './options.ts';
export type { StateScope } from './scope.ts';
