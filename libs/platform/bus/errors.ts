import { UpidError } from '@upid/contracts';

/**
 * Most bytes of one message's payload: the server's limit of 1 MiB, less room for headers (a dead letter carries the original's and more).
 */
export const MAX_MESSAGE_BYTES = 1024 * 1024 - 16 * 1024;

/** A payload over {@link MAX_MESSAGE_BYTES}: no retry helps, the sender must split it. */
export class MessageTooLargeError extends Error {
  override readonly name = 'MessageTooLargeError';
  constructor(readonly subject: string, readonly bytes: number) {
    super(`A message of ${bytes} bytes for ${subject} is over the bus's limit of ${MAX_MESSAGE_BYTES} bytes`);
  }
}

/** The stream refused the message because it is full (discard new): spool and try again later with the same id. */
export class StreamFullError extends Error {
  override readonly name = 'StreamFullError';
}

/** No stream takes the subject, or this user may not publish it. */
export class NoStreamError extends Error {
  override readonly name = 'NoStreamError';
}

/** The bus is away or did not answer in time: whether it took the message is unknown; try again with the same id. */
export class BusUnavailableError extends Error {
  override readonly name = 'BusUnavailableError';
}

/** No instance of the service that was asked is there. */
export class ServiceUnavailableError extends UpidError {
  constructor(service: string, message = `${service} is not there: no instance of it answers`, options?: ErrorOptions) {
    super('unavailable', message, { service }, options);
  }
}

/** Two handlers for one consumer or one question: one of them would never be called. */
export class DuplicateHandlerError extends Error {
  override readonly name = 'DuplicateHandlerError';
}

/** Whether the failure lies in something that is away and comes back, so that the same work is to be tried again, uncounted. */
export function isDependencyAway(error: unknown): boolean {
  for (let each = error; each instanceof Error; each = each.cause) {
    if (each instanceof BusUnavailableError || each.name === 'DatabaseUnavailableError' || (each instanceof UpidError && each.code === 'unavailable')) return true;
  }
  return false;
}
