/** Kubernetes quantities (`k8s.io/apimachinery/pkg/api/resource`): a decimal with a binary or decimal suffix, or an exponent. */

const DECIMAL_EXPONENT: Readonly<Record<string, number>> = { '': 0, n: -9, u: -6, m: -3, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 };
const BINARY_FACTOR: Readonly<Record<string, number>> = { Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50, Ei: 2 ** 60 };
const QUANTITY = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i)?)$/;

/** The quantity as a number of its unit (bytes, cores), or null where the text is none. */
export function quantity(text: unknown): number | null {
  return scaled(text, 0);
}

/** A CPU quantity in nanocores, or null. */
export function nanocores(text: unknown): number | null {
  return scaled(text, 9);
}

/** The quantity times 10^exponent; the exponents are added before the text is read, so that `100n` is 1e-7 to the last bit. */
function scaled(text: unknown, exponent: number): number | null {
  if (typeof text === 'number') return finite(text * 10 ** exponent);
  if (typeof text !== 'string') return null;
  const match = QUANTITY.exec(text.trim());
  if (match === null) return null;
  const [, digits, power, suffix = ''] = match;
  const factor = BINARY_FACTOR[suffix];
  if (factor !== undefined) return finite(Number(`${digits}e${exponent}`) * factor);
  return finite(Number(`${digits}e${exponent + (power === undefined ? (DECIMAL_EXPONENT[suffix] ?? 0) : Number(power))}`));
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
