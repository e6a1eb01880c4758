/** Text for people: tables, money, amounts, times. Pure. */

export type Cell = string | number | null | undefined;

/** Left-aligned columns; numbers to the right. Nothing to show is said with `empty`. */
export function table(head: readonly string[], rows: readonly (readonly Cell[])[], empty = 'nothing to show'): string {
  if (rows.length === 0) return `(${empty})`;
  const texts = rows.map((row) => row.map((cell) => (cell === null || cell === undefined ? '-' : String(cell))));
  const widths = head.map((title, column) => Math.max(title.length, ...texts.map((row) => row[column]?.length ?? 0)));
  const right = head.map((_, column) => rows.every((row) => typeof row[column] === 'number' || row[column] == null));
  const line = (row: readonly string[]) => row.map((cell, column) => (right[column] ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0))).join('  ').trimEnd();
  return [line(head), ...texts.map(line)].join('\n');
}

/** Labelled lines, labels aligned. */
export function fields(rows: readonly (readonly [string, Cell])[]): string {
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `${label.padEnd(width)}  ${value === null || value === undefined ? 'unknown' : String(value)}`).join('\n');
}

export function money(value: number | null | undefined, currency: string | null | undefined): string {
  if (value === null || value === undefined) return 'unknown';
  const digits = value !== 0 && Math.abs(value) < 1 ? 4 : 2;
  return `${value.toFixed(digits)} ${currency ?? ''}`.trim();
}

export function percent(share: number | null | undefined): string {
  return share === null || share === undefined ? 'unknown' : `${(share * 100).toFixed(1)} %`;
}

export function cores(millicores: number | null | undefined): string {
  if (millicores === null || millicores === undefined) return 'unknown';
  return millicores >= 1000 ? `${(millicores / 1000).toFixed(2)} cores` : `${millicores < 10 ? millicores.toFixed(1) : millicores.toFixed(0)}m`;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return 'unknown';
  let rest = value;
  let unit = 0;
  while (rest >= 1024 && unit < UNITS.length - 1) {
    rest /= 1024;
    unit++;
  }
  return `${rest >= 100 || unit === 0 ? rest.toFixed(0) : rest.toFixed(1)} ${UNITS[unit]}`;
}

export function count(value: number | null | undefined): string {
  if (value === null || value === undefined) return 'unknown';
  return value >= 10 || Number.isInteger(value) ? Math.round(value).toLocaleString('en-US') : value.toFixed(1);
}

/** `2026-03-04T12:00:00.000Z` → `2026-03-04 12:00 UTC`. */
export function time(text: string | null | undefined): string {
  return text ? `${text.slice(0, 10)} ${text.slice(11, 16)} UTC` : 'never';
}

export function heading(title: string): string {
  return `\n${title}\n${'─'.repeat(title.length)}`;
}
