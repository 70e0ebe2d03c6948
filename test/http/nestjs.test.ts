import 'reflect-metadata';
import { Controller, Get, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import express from 'express';
import { expect, it, onTestFinished } from 'vitest';
import type { RedisKit } from '../../src/index.ts';
import { kitForTest } from '../support/kits.ts';
import { freePort } from '../support/servers.ts';
import { send, serve } from '../support/web.ts';

type Route = () => Promise<unknown>;

/** Handlers that use two kits: one whose Redis cannot be reached, and one on `memory:`. */
function routesOf(away: RedisKit, memory: RedisKit): Readonly<Record<string, Route>> {
  return {
    away: () => away.locks.acquire('a'),
    taken: async () => {
      await memory.locks.tryAcquire('a');
      return memory.locks.acquire('a', { wait: 1 });
    },
    closed: async () => {
      const kit = kitForTest({ url: 'memory:' });
      await kit.close();
      return kit.locks.acquire('a');
    },
    mistake: () => memory.locks.acquire('a', { wait: -1 as never }),
    fine: async () => 'fine',
  };
}

async function kitsForTest() {
  const away = kitForTest({ url: `redis://127.0.0.1:${await freePort()}` });
  const memory = kitForTest({ url: 'memory:' });
  const limit = memory.rateLimit({ algorithm: 'sliding-window', limit: 6, window: '1h' });
  return { routes: routesOf(away, memory), limit };
}

/** Calls Nest's decorators as functions, which needs no compiler support. */
async function serveNest(): Promise<string> {
  const { routes, limit } = await kitsForTest();
  class Routes {}
  for (const [path, route] of Object.entries(routes)) {
    const descriptor = { value: route, configurable: true, writable: true };
    Object.defineProperty(Routes.prototype, path, descriptor);
    Get(path)(Routes.prototype, path, descriptor);
  }
  Controller()(Routes);
  class App {}
  Module({ controllers: [Routes] })(App);
  const app = await NestFactory.create(App, { logger: false });
  app.use(limit);
  await app.listen(0, '127.0.0.1');
  onTestFinished(() => app.close());
  return app.getUrl();
}

async function serveExpress(): Promise<string> {
  const { routes, limit } = await kitsForTest();
  const app = express().set('env', 'test').use(limit);
  for (const [path, route] of Object.entries(routes)) {
    app.get(`/${path}`, async (_req, res) => void res.send(await route()));
  }
  return serve(app);
}

async function statusesOf(url: string): Promise<readonly number[]> {
  const statuses = [];
  for (const path of ['away', 'taken', 'closed', 'mistake', 'unknown', 'fine', 'fine']) {
    statuses.push((await send(`${url}/${path}`)).status);
  }
  return statuses;
}

it('NestJS answers errors of the kit and refusals with the same statuses as Express', async () => {
  expect(await statusesOf(await serveExpress())).toEqual([503, 503, 503, 500, 404, 200, 429]);
  expect(await statusesOf(await serveNest())).toEqual([503, 503, 503, 500, 404, 200, 429]);
});
