import type { Command, CommandReceipt } from '@upid/contracts';
import { readField, type ActuatedObject } from './fields.js';

export type RefusalCode = NonNullable<CommandReceipt['code']>;

/** Why a command is not carried out. */
export interface Refusal {
  readonly code: RefusalCode;
  readonly message: string;
}

/** What is known before the object is looked at. */
export interface AdmissionFacts {
  readonly nowMs: number;
  readonly clusterId: string;
  readonly signatureHolds: boolean;
  readonly actuation: boolean;
  /** Every action is held but putting back. */
  readonly held: boolean;
  /** The highest fence taken for this target. */
  readonly highestFence: number;
}

/** Whether a command may be looked at any further; null where it may. Waking ignores expiry and holds, and needs no actuation switched on. */
export function refusedBeforehand(command: Command, facts: AdmissionFacts): Refusal | null {
  const waking = command.verb === 'restore';
  if (command.cluster_id !== facts.clusterId) return { code: 'wrong_cluster', message: `the command is for cluster ${command.cluster_id}, this is ${facts.clusterId}` };
  if (!facts.signatureHolds) return { code: 'bad_signature', message: 'the signature is not the optimizer\'s' };
  if (!waking && !facts.actuation) return { code: 'actuation_disabled', message: 'this agent may not change its cluster (UPID_ACTUATION is not true)' };
  if (!waking && facts.held) return { code: 'held', message: 'every action is held; only putting back goes on' };
  if (!waking && facts.nowMs > Date.parse(command.expires_at)) return { code: 'expired', message: `the command expired at ${command.expires_at}` };
  if (command.fence < facts.highestFence) return { code: 'lower_fence', message: `a command with fence ${facts.highestFence} was taken for this workload before one with ${command.fence} came` };
  return null;
}

const unlessFalse = (value: string) => value.toLowerCase() !== 'false';
const isTrue = (value: string) => value.toLowerCase() === 'true';

/** Annotations by which a workload or namespace asks to be left alone; these count whatever a command names. */
const OPT_OUTS: Readonly<Record<string, (value: string) => boolean>> = {
  'upid.io/exclude': unlessFalse, 'upid.io/ignore': unlessFalse, 'upid.io/opt-out': unlessFalse, 'upid.io/do-not-sleep': unlessFalse, 'downscaler/exclude': isTrue,
};
/** Of those that a command may name besides, the ones that ask by another word than `true`. */
const NAMED_OTHERWISE: Readonly<Record<string, (value: string) => boolean>> = { 'cluster-autoscaler.kubernetes.io/safe-to-evict': (value) => value.toLowerCase() === 'false' };

type Annotated = { readonly metadata?: { readonly annotations?: Readonly<Record<string, string>> } };

/** The opt-out that stands on a workload or its namespace, in words; null where none does. @param named by a command, beyond our own */
export function optOut(workload: Annotated, namespace: Annotated | null, named: readonly string[]): string | null {
  for (const [where, object] of [['the workload', workload], ['its namespace', namespace]] as const) {
    const annotations = object?.metadata?.annotations ?? {};
    for (const name of [...Object.keys(OPT_OUTS), ...named]) {
      const value = annotations[name];
      const asks = OPT_OUTS[name] ?? NAMED_OTHERWISE[name] ?? isTrue;
      if (value !== undefined && asks(value)) return `${where} has annotation ${name}=${value.slice(0, 60)}`;
    }
  }
  return null;
}

/** What was read from the API server in the step of the change. */
export interface TargetFacts {
  /** null where it is not there. */
  readonly object: ActuatedObject | null;
  readonly namespace: Annotated | null;
  /** Autoscalers that own what the command changes, as `Kind/name`. */
  readonly autoscalers: readonly string[];
  /** Generation that the object had at the version which the command names; null where this agent never saw that version. */
  readonly generationAtCommand: number | null;
  /** Another change that still holds the same fields, by command id. */
  readonly openChange: string | null;
}

/** Whether the object is as the command supposes; null where it is. For commands that change, not for those that put back. */
export function refusedByObject(command: Command, { object, namespace, autoscalers, generationAtCommand, openChange }: TargetFacts): Refusal | null {
  const { target, preconditions } = command;
  const name = `${target.kind} ${target.namespace}/${target.name}`;
  if (object === null) return { code: 'not_found', message: `${name} is not there` };
  const { metadata = {} } = object;
  if (metadata.uid !== target.uid) return { code: 'uid_changed', message: `${name} was made anew: its UID is ${metadata.uid}, not ${target.uid}` };
  if (metadata.deletionTimestamp !== undefined) return { code: 'not_found', message: `${name} is being deleted` };
  const out = optOut(object, namespace, preconditions.absent_annotations);
  if (out !== null) return { code: 'opted_out', message: `${name}: ${out}` };
  for (const [label, value] of Object.entries(preconditions.absent_labels)) {
    const has = metadata.labels?.[label] ?? object.spec?.template?.metadata?.labels?.[label];
    if (has === value) return { code: 'precondition_failed', message: `${name} has label ${label}=${value}` };
  }
  if (openChange !== null) return { code: 'precondition_failed', message: `${name} is still as command ${openChange} left it; that is to be put back first` };
  const [owner] = autoscalers;
  if (owner !== undefined) return { code: 'precondition_failed', message: `${name} is owned by ${owner}` };
  if (preconditions.replicas !== null && readField(object, '/spec/replicas') !== preconditions.replicas) {
    return { code: 'precondition_failed', message: `${name} has ${readField(object, '/spec/replicas')} replicas, not ${preconditions.replicas}` };
  }
  // A version moves with every change of status; what must not have moved is the wish.
  const moved = target.resource_version !== '' && target.resource_version !== metadata.resourceVersion && (generationAtCommand === null || generationAtCommand !== metadata.generation);
  if (moved) return { code: 'resource_version_changed', message: `${name} was changed since version ${target.resource_version}` };
  return null;
}

/** What a sleeper's watch knows. Times in unix ms; null: not lost. */
export interface WatchFacts {
  readonly nowMs: number;
  readonly asleepSinceMs: number;
  readonly logLostSinceMs: number | null;
  readonly busLostSinceMs: number | null;
}

/**
 * The dead-man rule: what sleeps is woken when what should wake it cannot be seen. @returns why, or null
 * @param watch as the command asked; the log counts where business requests are to wake
 */
export function deadMan(watch: NonNullable<Command['watch']>, facts: WatchFacts): string | null {
  const patienceMs = watch.dead_man_minutes * 60_000;
  const lost = (sinceMs: number | null) => sinceMs !== null && facts.nowMs - Math.max(sinceMs, facts.asleepSinceMs) >= patienceMs;
  if (watch.business_requests && lost(facts.logLostSinceMs)) return `the access logs were not followed for ${watch.dead_man_minutes} minutes`;
  if (lost(facts.busLostSinceMs)) return `the bus was away for ${watch.dead_man_minutes} minutes`;
  return null;
}
