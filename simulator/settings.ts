import { setting } from '@upid/platform';
import { z } from 'zod';

/** What the demo cluster is told by its environment. */
export const simulatorSettings = {
  scenario: setting('UPID_SIMULATOR_SCENARIO', z.string(), 'file of the scenario, YAML'),
  host: setting('UPID_SIMULATOR_HOST', z.string().default('127.0.0.1'), 'address that both APIs listen on'),
  url: setting('UPID_SIMULATOR_URL', z.url().optional(), 'URL of the Kubernetes API as the kubeconfig names it; default: this machine'),
  port: setting('UPID_SIMULATOR_PORT', z.coerce.number().int().min(0).max(65_535).default(0), 'port of the Kubernetes API'),
  prometheusPort: setting('UPID_SIMULATOR_PROMETHEUS_PORT', z.coerce.number().int().min(0).max(65_535).default(0), 'port of the Prometheus range API'),
  dir: setting('UPID_SIMULATOR_DIR', z.string(), 'folder for the kubeconfig and for what clients have changed'),
  healthHost: setting('UPID_HEALTH_HOST', z.string().default('127.0.0.1'), 'address that health is served on'),
  healthPort: setting('UPID_HEALTH_PORT', z.coerce.number().int().min(0).max(65_535).default(0), 'port of /health/live and /health/ready'),
} as const;
