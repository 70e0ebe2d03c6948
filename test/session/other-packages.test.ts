import flash from 'connect-flash';
import { csrfSync } from 'csrf-sync';
import express from 'express';
import { expect, it } from 'vitest';
import { serve } from '../http/exchange.ts';
import { EXPRESS } from '../http/frameworks.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { Browser, SECRET } from './browser.ts';

describeOnBothEngines('other packages above kit.session', (url) => {
  it.each(EXPRESS)('the package connect-flash keeps a message for one request (%s)', async (_, makeApp) => {
    const app = makeApp();
    app.use(kitForTest({ url: url() }).session({ secret: SECRET }), flash());
    app.get('/say', (req, res) => {
      req.flash('info', 'saved');
      res.redirect('/hear');
    });
    app.get('/hear', (req, res) => void res.json(req.flash('info')));
    const browser = new Browser(await serve(app));
    await browser.get('/say');
    expect((await browser.get('/hear')).body).toBe('["saved"]');
    expect((await browser.get('/hear')).body).toBe('[]');
  });

  it.each(EXPRESS)(
    'the package csrf-sync accepts its token, even after a login with `keepData` (%s)',
    async (_, makeApp) => {
      const { csrfSynchronisedProtection, generateToken } = csrfSync();
      const app = makeApp();
      app.use(kitForTest({ url: url() }).session({ secret: SECRET }), express.json());
      app.get('/token', (req, res) => void res.end(generateToken(req)));
      app.use(csrfSynchronisedProtection);
      app.post('/login', async (req, res) => {
        await req.session.login('ann', { keepData: true });
        res.end('in');
      });
      app.post('/pay', (_req, res) => void res.end('paid'));
      const browser = new Browser(await serve(app));
      const token = (await browser.get('/token')).body;
      const post = (path: string, headers = {}) => browser.get(path, { method: 'POST', headers });
      expect((await post('/pay')).status).toBe(403);
      expect((await post('/login', { 'x-csrf-token': token })).body).toBe('in');
      expect((await post('/pay', { 'x-csrf-token': token })).body).toBe('paid');
    },
  );
});
