/** Prometheus' text exposition format 0.0.4, read leniently: a line that cannot be read is counted and passed over. */

/** One line of a metric: its labels, its value (never NaN) and the time it carries, unix ms. */
export interface MetricSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  readonly timeMs: number | null;
}

/**
 * Reads the samples of the wanted metrics from left to right; others are passed over unread. O(length).
 * @returns lines of wanted metrics that could not be read
 */
export function readExposition(text: string, wanted: ReadonlySet<string>, onSample: (sample: MetricSample) => void): number {
  let malformed = 0;
  for (let from = 0; from < text.length; ) {
    let end = text.indexOf('\n', from);
    if (end < 0) end = text.length;
    if (text.charCodeAt(from) !== 35) {
      const nameEnd = endOfName(text, from, end);
      const name = text.slice(from, nameEnd);
      if (wanted.has(name)) {
        const sample = readSample(name, text.slice(nameEnd, end));
        if (sample === null) malformed++;
        else if (!Number.isNaN(sample.value)) onSample(sample);
      }
    }
    from = end + 1;
  }
  return malformed;
}

function endOfName(text: string, from: number, end: number): number {
  let at = from;
  while (at < end && text.charCodeAt(at) !== 123 && text.charCodeAt(at) !== 32 && text.charCodeAt(at) !== 9) at++;
  return at;
}

function readSample(name: string, rest: string): MetricSample | null {
  const labels: Record<string, string> = {};
  let at = 0;
  if (rest.charCodeAt(0) === 123) {
    const after = readLabels(rest, labels);
    if (after === null) return null;
    at = after;
  }
  const words = rest.slice(at).trim().split(/[ \t]+/);
  const [valueText = '', timeText] = words;
  const value = readValue(valueText);
  if (value === null || words.length > 2) return null;
  const timeMs = timeText === undefined ? null : Number(timeText);
  return timeMs !== null && !Number.isFinite(timeMs) ? null : { name, labels, value, timeMs };
}

function readValue(text: string): number | null {
  if (text === 'NaN') return Number.NaN;
  if (text === '+Inf' || text === 'Inf') return Number.POSITIVE_INFINITY;
  if (text === '-Inf') return Number.NEGATIVE_INFINITY;
  return text !== '' && Number.isFinite(Number(text)) ? Number(text) : null;
}

/** Reads `{a="b",c="d"}`; the position behind it, or null. */
function readLabels(text: string, labels: Record<string, string>): number | null {
  let at = 1;
  for (;;) {
    while (text[at] === ' ' || text[at] === ',') at++;
    if (text[at] === '}') return at + 1;
    const equals = text.indexOf('=', at);
    if (equals < 0) return null;
    const key = text.slice(at, equals).trim();
    if (text[equals + 1] !== '"') return null;
    let end = equals + 2;
    let escaped = false;
    while (end < text.length && text[end] !== '"') {
      if (text[end] === '\\') {
        escaped = true;
        end++;
      }
      end++;
    }
    if (end >= text.length) return null;
    const raw = text.slice(equals + 2, end);
    labels[key] = escaped ? raw.replace(/\\(.)/g, (_all, char: string) => (char === 'n' ? '\n' : char)) : raw;
    at = end + 1;
  }
}
