import type { IncomingMessage, ServerResponse } from 'node:http';
import connect from 'connect';
import express, { type Application } from 'express';
import express4 from 'express4';

type Next = (error?: unknown) => void;

/** The interface that the apps of all three frameworks share. */
export interface App {
  (req: IncomingMessage, res: ServerResponse): void;
  use(middleware: (req: IncomingMessage, res: ServerResponse, next: Next) => void): unknown;
}

/** An app with its own error page, since the error page of Express would write stack traces to the console. */
export const APPS: readonly (readonly [name: string, makeApp: () => App])[] = [
  ['Express 5', () => quiet(express())],
  ['Express 4', () => quiet(makeExpress4())],
  ['Connect', () => connect()],
];

export const EXPRESS: readonly (readonly [name: string, makeApp: () => Application])[] = [
  ['Express 5', () => quiet(express())],
  ['Express 4', () => quiet(makeExpress4())],
];

/** Express 4 with the types of Express 5. */
function makeExpress4(): Application {
  return express4() as unknown as Application;
}

function quiet(app: Application): Application {
  return app.set('env', 'test');
}

/** An error handler, which frameworks recognize by its four parameters. */
export function onError(app: App, handle: (error: Error, res: ServerResponse) => void): void {
  const middleware = (error: Error, _req: IncomingMessage, res: ServerResponse, _next: Next) =>
    handle(error, res);
  Reflect.apply(app.use, app, [middleware]);
}

/** Mounts a sub-app at a path. */
export function mount(app: App, path: string, inner: App): void {
  Reflect.apply(app.use, app, [path, inner]);
}
