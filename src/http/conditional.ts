import type { IncomingMessage } from 'node:http';

/**
 * Whether the client has this representation already: If-None-Match with the weak comparison that RFC 9110,
 * section 13.1.2, asks for.
 */
export function isNotModified(req: IncomingMessage, etag: string | undefined): boolean {
  const header = req.headers['if-none-match'];
  if (header === undefined) return false;
  if (header.trim() === '*') return true;
  if (etag === undefined) return false;
  const opaque = (tag: string) => tag.replace(/^W\//, '');
  const tags = header.match(/(?:W\/)?"[^"]*"/g) ?? [];
  return tags.some((tag) => opaque(tag) === opaque(etag));
}
