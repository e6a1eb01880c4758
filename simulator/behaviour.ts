import type { Behaviour } from './scenario.js';

/** What workloads do, as pure functions of (seed, who, minute): asked twice they answer the same, in any order. */

/** 32 well-mixed bits of a text (FNV-1a and MurmurHash3's finaliser). */
export function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return mix(hash);
}

function mix(hash: number): number {
  let h = hash;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** A number in [0, 1) of a key and a minute. */
export function noiseAt(key: number, minute: number): number {
  return mix(key ^ Math.imul(minute | 0, 0x9e3779b1)) / 2 ** 32;
}

/** Day of the week (1 = Monday) and hour with fraction, at an offset from UTC. */
function local(minute: number, offsetMinutes: number): { day: number; hour: number } {
  const at = minute + offsetMinutes;
  const days = Math.floor(at / 1440);
  // 1970-01-01 was a Thursday.
  return { day: ((((days + 3) % 7) + 7) % 7) + 1, hour: (((at % 1440) + 1440) % 1440) / 60 };
}

/** Minutes that a time zone is ahead of UTC at a moment. */
export function zoneOffsetMinutes(zone: string, atMs: number): number {
  const parts = Object.fromEntries(new Intl.DateTimeFormat('en-GB', { timeZone: zone, year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' }).formatToParts(atMs).map((part) => [part.type, part.value]));
  return Math.round((Date.UTC(Number(parts.year), Number(parts.month) - 1, Number(parts.day), Number(parts.hour), Number(parts.minute), Number(parts.second)) - atMs) / 60_000);
}

/** How busy it is, 0..1, with an hour's ramp at both ends of the day. */
function activity(behaviour: Behaviour, minute: number, offsetMinutes: number): number {
  switch (behaviour.type) {
    case 'steady':
      return 1;
    case 'health_checks_only':
      return 0;
    case 'business_hours': {
      const { day, hour } = local(minute, offsetMinutes);
      if (!behaviour.days.includes(day)) return 0;
      return Math.max(0, Math.min(1, hour - behaviour.start_hour + 1, behaviour.end_hour + 1 - hour));
    }
    case 'batch': {
      const { hour } = local(minute, offsetMinutes);
      return behaviour.start_hours.some((start) => hour >= start && hour < start + behaviour.duration_minutes / 60) ? 1 : 0;
    }
  }
}

/** What a pod does in a minute. */
export interface PodMinute {
  readonly cpuMillicores: number;
  readonly memoryBytes: number;
  readonly receiveBytesPerSecond: number;
  readonly transmitBytesPerSecond: number;
}

const MIB = 1024 * 1024;
const PAGE = 4096;

/** One pod's usage in a minute. `key` is the pod's own hash, `share` its part of the workload's requests. */
export function podMinute(behaviour: Behaviour, key: number, minute: number, offsetMinutes: number, share: number): PodMinute {
  const busy = activity(behaviour, minute, offsetMinutes);
  const noise = 'noise' in behaviour ? behaviour.noise : 0;
  const wave = 1 + noise * (2 * noiseAt(key, minute) - 1);
  const idle = 'idle_cpu' in behaviour ? behaviour.idle_cpu : behaviour.cpu;
  const cpuMillicores = Math.max(0.2, (idle + (behaviour.cpu - idle) * busy) * wave);
  // Memory follows slowly: an own level for each hour, a little of it with the work.
  const level = 0.85 + 0.1 * noiseAt(key ^ 0x5bd1e995, Math.floor(minute / 60)) + 0.05 * busy;
  const memoryBytes = Math.round((behaviour.memory * MIB * level) / PAGE) * PAGE;
  const requests = requestMinute(behaviour, key, minute, offsetMinutes);
  const perSecond = ((requests.business + requests.healthCheck) * share) / 60;
  return { cpuMillicores, memoryBytes, receiveBytesPerSecond: Math.round(40 + perSecond * 900), transmitBytesPerSecond: Math.round(60 + perSecond * 6_000) };
}

/** A workload's requests in a minute. */
export interface RequestMinute {
  readonly business: number;
  readonly healthCheck: number;
  readonly errors: number;
}

/** Whole requests of a workload in a minute; a rate below one comes now and then. */
export function requestMinute(behaviour: Behaviour, key: number, minute: number, offsetMinutes: number): RequestMinute {
  if (behaviour.type === 'health_checks_only') return { business: 0, healthCheck: Math.round(behaviour.checks), errors: 0 };
  if (behaviour.type === 'batch') return { business: 0, healthCheck: 0, errors: 0 };
  const busy = activity(behaviour, minute, offsetMinutes);
  const night = behaviour.type === 'business_hours' ? behaviour.night_requests : behaviour.requests;
  const rate = (night + (behaviour.requests - night) * busy) * (0.8 + 0.4 * noiseAt(key ^ 0x1b873593, minute));
  const business = Math.floor(rate + noiseAt(key ^ 0x27d4eb2f, minute));
  const errors = noiseAt(key ^ 0x165667b1, minute) < 0.1 ? Math.min(business, Math.ceil(business * 0.01)) : 0;
  return { business, healthCheck: behaviour.requests > 0 ? 2 : 0, errors };
}
