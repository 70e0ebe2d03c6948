/**
 * Receives the kit's log lines. `console`, pino and winston fit. Each line is one string, since loggers disagree about
 * further arguments: pino ignores an Error that is the second argument.
 */
export interface Logger {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

function ignore(): void {
  // The default logger writes only warnings and errors.
}

export const consoleLogger: Logger = {
  debug: ignore,
  info: ignore,
  warn: (message) => console.warn(`redis-kit: ${message}`),
  error: (message) => console.error(`redis-kit: ${message}`),
};

export const silentLogger: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore };

/** Wraps a user's logger so that an error of the logger does not fail the code that logs. */
export function guardedLogger(logger: Logger): Logger {
  const guard =
    (level: keyof Logger) =>
    (message: string): void => {
      try {
        logger[level](message);
      } catch {
        // There is no other place to log an error of the logger.
      }
    };
  return { debug: guard('debug'), info: guard('info'), warn: guard('warn'), error: guard('error') };
}
