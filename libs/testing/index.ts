/** For tests alone: real servers, a real Kubernetes control plane, builders. */
export { type WaitOptions, WaitTimeoutError, waitFor } from './wait.js';
export { ManagedProcess, type ProcessDescription, ProcessEndedError, forgetProcess, freePort, temporaryDirectory, watchProcess } from './processes.js';
export { buildControlPlane, controlPlaneAvailability } from './controlplane/build.js';
export { type Access, type AuditEvent, ControlPlane, type ControlPlaneOptions, type Pod, startControlPlane } from './controlplane/controlplane.js';
export { type ComponentName } from './controlplane/components.js';
export { KubernetesApi, KubernetesApiError, type KubernetesList, type KubernetesObject, type Manifest, type RawAnswer, type WatchEvent, parseManifests } from './controlplane/api.js';
export { type KubeletFault, Kubelets } from './controlplane/kubelet.js';
export { type Cloud, type NodeOptions, nodeAddress } from './controlplane/nodes.js';
export { type SimulatedUsage, USAGE_ANNOTATIONS, usageAnnotations } from './controlplane/usage.js';
export { CONTROL_PLANE_TIMEOUT_MS, describeWithControlPlane } from './controlplane/describe.js';
export { ForeignServerError, TestNats, type TestNatsOptions, TestPostgres, TestServer, type TestServerOptions, startNats, startPostgres, startRedis } from './servers/servers.js';
export * from './builders.js';
export { type PrometheusFault, type PrometheusOptions, type SeenQuery, TestPrometheus, startPrometheus } from './prometheus/prometheus.js';
export { type SeriesDefinition, counterOf } from './prometheus/promql.js';
