declare module 'connect-flash' {
  import type { RequestHandler } from 'express';

  export default function flash(): RequestHandler;
}

declare namespace Express {
  interface Request {
    flash(kind: string, message?: string): string[];
  }
}
