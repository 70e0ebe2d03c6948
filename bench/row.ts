import type { RequestListener } from 'node:http';
import express, { type Express, type RequestHandler } from 'express';
import type { RedisKit } from 'redis-kit';
import type { Connections } from './connections.ts';

/** Makes what a server answers requests with. It runs in a process of its own. */
export type Setup = (connections: Connections) => RequestListener | Promise<RequestListener>;

/** Servers that answer the same requests: measured side by side in interleaved rounds. */
export interface Row {
  readonly title: string;
  /** What the others are compared with. */
  readonly bare: Setup;
  readonly kit: Readonly<Record<string, Setup>>;
  /** What redis-kit replaces; the first one is the peer of the ratios. */
  readonly peers: Readonly<Record<string, Setup>>;
  readonly request?: RowRequest;
}

export interface RowRequest {
  /** Header fields. `{n}` is the number of the request, modulo `cycle`. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly cycle?: number;
  /** The expected status of every server except `bare`; default 200. */
  readonly status?: number;
  /** The number of visitors that log in at `/login` and send their cookies in turn; default 0. */
  readonly visitors?: number;
  /** Default 32. */
  readonly connections?: number;
  /** The number of processes of each server; default 1. */
  readonly processes?: number;
  /** Measures the largest key in Redis as well. */
  readonly measuresKeys?: boolean;
  /** Redis is behind a proxy that delays each direction by this time. */
  readonly delayMs?: number;
}

export type GrowthMetric = 'cpu' | 'redis' | 'bytes' | 'perSecond' | 'msEach' | 'commands';

/** A row for each of several sizes. */
export interface Growth {
  readonly title: string;
  /** What grows. */
  readonly of: string;
  readonly points: readonly number[];
  readonly shows: readonly GrowthMetric[];
  rowAt(point: number): Row;
}

/** 1.3 kB of JSON. */
const PRODUCTS = {
  items: Array.from({ length: 20 }, (_, id) => ({
    id,
    name: `product ${id}`,
    price: id * 1.5,
    tags: ['a', 'b'],
  })),
};

export const sendProducts: RequestHandler = (_req, res) => {
  res.json(PRODUCTS);
};

export function appWith(...handlers: RequestHandler[]): Express {
  return express()
    .disable('x-powered-by')
    .get('/', ...handlers, sendProducts);
}

export const bareHandler: Setup = () => appWith();

/** The app with the middleware that a kit makes. */
export function withKit(middleware: (kit: RedisKit) => RequestHandler | RequestHandler[]): Setup {
  return async ({ connectKit }) => appWith(...[middleware(await connectKit())].flat());
}
