import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { expect, it } from 'vitest';
import { serve } from '../http/exchange.ts';
import { type App, EXPRESS } from '../http/frameworks.ts';
import { kitForTest } from '../support/kits.ts';
import { Browser, type Routes, SECRET, withRoutes } from './browser.ts';

const require = createRequire(import.meta.url);

/** Loads one more copy of Express, as a package with dependencies of its own does. */
function loadExpressCopy(name: string): () => App {
  const { resolve, cache } = require;
  const folder = dirname(resolve(name));
  const loaded = Object.entries(cache).filter(([path]) => path.startsWith(folder));
  for (const [path] of loaded) Reflect.deleteProperty(cache, path);
  const makeApp = require(name);
  for (const [path, module] of loaded) cache[path] = module;
  return makeApp;
}

it.each(
  EXPRESS.flatMap(([name, makeApp]) => ['express', 'express4'].map((copy) => [name, copy, makeApp] as const)),
)(
  'a session of an app (%s) is also that of an app of another copy of Express that it calls (%s)',
  async (_, copy, makeApp) => {
    const routes: Routes = {
      '/regenerate': async (req, res) => {
        await req.session.regenerate();
        req.session.note = 'regenerated';
        res.json([req.sessionID === req.session.id, typeof req.sessionStore]);
      },
      '/in': async (req, res) => {
        await req.session.login('ann');
        res.json([req.sessionID === req.session.id, typeof req.sessionStore]);
      },
    };
    const [app, inner] = [makeApp(), withRoutes(loadExpressCopy(copy)(), routes)];
    app.use(kitForTest({ url: 'memory:' }).session({ secret: SECRET }));
    app.use((req, res) => inner(req, res));
    const browser = new Browser(await serve(app));
    await browser.get('/view');
    expect(await browser.data()).toEqual({ views: 1 });
    expect((await browser.get('/regenerate')).body).toBe('[true,"object"]');
    expect(await browser.data()).toEqual({ note: 'regenerated' });
    expect((await browser.get('/in')).body).toBe('[true,"object"]');
    expect(await browser.data()).toEqual({ userId: 'ann' });
  },
);
