/**
 * Where the kit writes what a person should read. `console`, pino and winston all fit: each line is one string, since
 * they disagree about what may stand beside it (pino ignores an Error that comes second).
 */
export interface Logger {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

function ignore(): void {
  // The default logger keeps a quiet app quiet: only what needs a person's attention is written.
}

export const consoleLogger: Logger = {
  debug: ignore,
  info: ignore,
  warn: (message) => console.warn(`redis-kit: ${message}`),
  error: (message) => console.error(`redis-kit: ${message}`),
};

export const silentLogger: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore };

/** A logger of the user's, whose own errors must not disturb the code that logs. */
export function guardedLogger(logger: Logger): Logger {
  const guard =
    (level: keyof Logger) =>
    (message: string): void => {
      try {
        logger[level](message);
      } catch {
        // There is no other place to log this.
      }
    };
  return { debug: guard('debug'), info: guard('info'), warn: guard('warn'), error: guard('error') };
}
