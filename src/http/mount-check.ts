import { ConfigError } from '../base/errors.ts';

type Framework = 'Express' | 'Koa' | 'Hono';

/** How to mount a middleware of the kit in each framework. */
const MOUNTED: Readonly<Record<Framework, (call: string) => string>> = {
  Express: (call) => `app.use(${call})`,
  Koa: (call) => `app.use(connect(${call})), where \`connect\` is the package koa-connect`,
  Hono: (call) =>
    `express().use(${call}).use(getRequestListener(app.fetch)), where \`getRequestListener\` is of @hono/node-server`,
};

/** Throws if the options are a request, because a method such as `kit.session` was mounted without being called. */
export function checkNotMounted(where: string, options: unknown): void {
  const framework = frameworkOf(options);
  if (framework === undefined) return;
  throw new ConfigError(
    `${where} was given a request of ${framework} in place of its options; call it: ${MOUNTED[framework](`${where}({ ... })`)}`,
  );
}

/** Throws at once if a middleware is called without `next`: Koa and Hono answer 500, but do not catch a later error. */
export function checkMiddlewareCall(where: string, req: unknown, next: unknown): void {
  if (typeof next === 'function') return;
  const framework = frameworkOf(req) ?? 'Express';
  throw new ConfigError(
    `${where} is a middleware for (req, res, next) and was called without \`next\`; mount it in ${framework} like this: ${MOUNTED[framework](`${where}({ ... })`)}`,
  );
}

/** The framework whose middleware get this first argument. `Express` includes all that pass Node's request. */
function frameworkOf(value: unknown): Framework | undefined {
  if (has(value, 'req', 'res', 'request', 'response')) return 'Koa';
  if (has(value, 'req', 'env', 'newResponse')) return 'Hono';
  return has(value, 'method', 'url', 'headers') ? 'Express' : undefined;
}

function has(value: unknown, ...names: readonly string[]): boolean {
  return typeof value === 'object' && value !== null && names.every((name) => name in value);
}
