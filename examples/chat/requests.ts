import type { ErrorRequestHandler, Request, RequestHandler } from 'express';

/** An error whose message the client may see. */
export class HttpError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** The user of the session. Throws for a visitor who is not signed in. */
export function userOf(req: Request): string {
  const { userId } = req.session;
  if (userId === undefined) throw new HttpError(401, 'Sign in first.');
  return userId;
}

/** A property of the JSON body, without space around it. */
export function textOf(req: Request, name: string, maxLength: number): string {
  const value: unknown = req.body?.[name];
  const text = typeof value === 'string' ? value.trim() : '';
  if (text !== '' && text.length <= maxLength) return text;
  throw new HttpError(400, `"${name}" must be a text of 1 to ${maxLength} characters.`);
}

/** Letters and digits of any language, so that a name cannot pass for markup or hold control characters. */
export function nameOf(req: Request): string {
  const name = textOf(req, 'name', 24).normalize('NFC');
  if (/^[\p{L}\p{N}][\p{L}\p{M}\p{N} ._'-]*$/u.test(name)) return name;
  throw new HttpError(400, "A name has letters, digits, spaces and the characters . _ ' and -.");
}

/** The position of a message, as the server has sent it. `0-0` is before all messages. */
export function cursorOf(value: unknown): string {
  if (typeof value === 'string' && /^\d{1,15}-\d{1,15}$/.test(value)) return value;
  throw new HttpError(400, 'A cursor looks like 1764460800000-0.');
}

/** The page loads nothing from elsewhere, runs no inline script, and is shown in no frame. */
export const securityHeaders: RequestHandler = (_req, res, next) => {
  res.set({
    'Content-Security-Policy':
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
  });
  next();
};

/** Answers of the API belong to one user at one time. */
export const noStore: RequestHandler = (_req, res, next) => {
  res.set('Cache-Control', 'no-store');
  next();
};

/** Answers as the refusals of the kit do. An error of the server is logged, and the client does not see its message. */
export const problems: ErrorRequestHandler = (
  error: { status?: unknown; message?: unknown },
  _req,
  res,
  next,
) => {
  if (res.headersSent) return next(error);
  const status = typeof error?.status === 'number' ? error.status : 500;
  if (status >= 500) console.error(error);
  const title = status >= 500 ? 'The server has a problem. Try again in a moment.' : String(error.message);
  res.status(status).type('application/problem+json').send(JSON.stringify({ status, title }));
};
