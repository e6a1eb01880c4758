export { Bus, type BusOptions, type BusState, connectBus, type PublishOptions, type PublishResult } from './bus.js';
export { type BatchHandler, type BatchSpec, type ConsumerLag, type ConsumerSpec, type SingleHandler, type SingleSpec, StreamConsumer } from './consumer.js';
export { type DeadLetter, listDeadLetters, replayDeadLetter } from './dead-letters.js';
export { type BatchDelivery, type Delivery, makeDelivery } from './delivery.js';
export { BusUnavailableError, DuplicateHandlerError, isDependencyAway, MAX_MESSAGE_BYTES, MessageTooLargeError, NoStreamError, ServiceUnavailableError, StreamFullError } from './errors.js';
export { Consume, ConsumeBatch, JetStreamServer, Query, Serve } from './nest.js';
export type { QueryOptions, ServeOptions } from './queries.js';
