import { createRequire } from 'node:module';
import type compression from 'compression';
import type cookieSession from 'cookie-session';
import type expressSession from 'express-session';
import type morgan from 'morgan';
import type onHeaders from 'on-headers';
import type responseTime from 'response-time';

/* Releases that depend on on-headers 1.0.2 or older, installed beside current ones. They have no types. */

const load = createRequire(import.meta.url);

export const onHeaders102 = load('on-headers102') as typeof onHeaders;
export const morgan1100 = load('morgan1100') as typeof morgan;
export const compression17 = load('compression17') as typeof compression;
export const responseTime232 = load('response-time232') as typeof responseTime;
export const cookieSession210 = load('cookie-session210') as typeof cookieSession;
export const expressSession1181 = load('express-session1181') as typeof expressSession;
