import type { LogFormat } from '../entry.js';
import { patternFormat } from './pattern.js';

/** Envoy's own format and Istio's, from their documented format strings. */

/** envoyproxy.io, "Access logging", default format string. */
export const ENVOY_DEFAULT =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"';

const ISTIO_TAIL = ' %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%';
const HEAD = '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS%';
const MIDDLE = '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"';

/** istio.io, "Envoy access logs", since 1.9. */
export const ISTIO_DEFAULT = `${HEAD} %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" ${MIDDLE}${ISTIO_TAIL}`;
/** Istio 1.4 to 1.8. */
export const ISTIO_BEFORE_1_9 = `${HEAD} "%DYNAMIC_METADATA(istio.mixer:status)%" "%UPSTREAM_TRANSPORT_FAILURE_REASON%" ${MIDDLE}${ISTIO_TAIL}`;

export const istioFormat: LogFormat = patternFormat(ISTIO_DEFAULT, 'istio');
export const oldIstioFormat: LogFormat = patternFormat(ISTIO_BEFORE_1_9, 'istio-1.8');
export const envoyFormat: LogFormat = patternFormat(ENVOY_DEFAULT, 'envoy');
