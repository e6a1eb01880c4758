export { embeddedPostgres, provisionNats, provisionPostgres, provisionRedis, serverCache, ServerUnavailableError } from './provision.js';
export { choosePort, freePort, PortInUseError, type ServerHandle, ServerStartError } from './process.js';
export { NatsReloadError, type NatsServerHandle, startNats } from './nats.js';
export { agentUserName, inboxPrefix, type NatsAgent, natsConfig, NatsConfigError, type NatsPlatformUser, nkeyFile, platformUser } from './nats-config.js';
export { startRedis } from './redis.js';
export { startPostgres } from './postgres.js';
