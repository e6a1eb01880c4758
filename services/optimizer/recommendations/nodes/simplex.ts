/**
 * The largest `objective · x` over x ≥ 0 with `rows[i] · x ≤ limits[i]`, all limits ≥ 0 (so that x = 0 is a start): the
 * primal simplex method on a dense tableau. The entering column is that of largest gain, the leaving row the one of largest
 * pivot among those that limit most; once the value stands still both go by Bland's rule (Mathematics of Operations Research
 * 2, 1977), which cannot cycle. Rows are scaled to a largest coefficient of 1. Answers null where nothing bounds it. O(rows ·
 * columns) a step; meant for some hundred rows.
 */
export function maximise(objective: readonly number[], rows: readonly Float64Array[], limits: readonly number[]): { value: number; x: number[] } | null {
  const n = objective.length;
  const m = rows.length;
  const tolerance = 1e-9;
  const table = rows.map((row, i) => {
    const scale = row.reduce((most, coefficient) => Math.max(most, Math.abs(coefficient)), 0) || 1;
    const line = new Float64Array(n + m + 1);
    row.forEach((coefficient, j) => { line[j] = coefficient / scale; });
    line[n + i] = 1;
    line[n + m] = (limits[i] ?? 0) / scale;
    return line;
  });
  const gains = new Float64Array(n + m + 1);
  objective.forEach((gain, j) => { gains[j] = gain; });
  const basis = rows.map((_, i) => n + i);
  let still = 0;
  for (let step = 0; step < 50 * (n + m); step++) {
    const bland = still > n + m;
    const enter = entering(gains, n + m, tolerance, bland);
    if (enter < 0) break;
    const leave = leaving(table, basis, enter, n + m, tolerance, bland);
    const line = table[leave];
    if (!line) {
      // A gain that nothing limits: rounding where it is tiny, else the program has no largest value.
      if ((gains[enter] ?? 0) > 1e-6) return null;
      gains[enter] = 0;
      continue;
    }
    const pivot = line[enter] ?? 1;
    still = (line[n + m] ?? 0) / pivot > tolerance ? 0 : still + 1;
    for (let j = 0; j <= n + m; j++) line[j] = (line[j] ?? 0) / pivot;
    for (const other of [...table, gains]) {
      if (other === line) continue;
      const factor = other[enter] ?? 0;
      if (factor === 0) continue;
      for (let j = 0; j <= n + m; j++) other[j] = (other[j] ?? 0) - factor * (line[j] ?? 0);
      other[enter] = 0;
    }
    // A limit below 0 is rounding.
    for (const other of table) if ((other[n + m] ?? 0) < 0) other[n + m] = 0;
    basis[leave] = enter;
  }
  const x = Array<number>(n).fill(0);
  basis.forEach((column, i) => { if (column < n) x[column] = table[i]?.[n + m] ?? 0; });
  return { value: objective.reduce((sum, gain, j) => sum + gain * (x[j] ?? 0), 0), x };
}

function entering(gains: Float64Array, columns: number, tolerance: number, bland: boolean): number {
  let enter = -1;
  for (let j = 0; j < columns; j++) {
    if ((gains[j] ?? 0) <= tolerance) continue;
    if (bland) return j;
    if (enter < 0 || (gains[j] ?? 0) > (gains[enter] ?? 0)) enter = j;
  }
  return enter;
}

function leaving(table: readonly Float64Array[], basis: readonly number[], enter: number, limit: number, tolerance: number, bland: boolean): number {
  let least = Infinity;
  for (const line of table) {
    const pivot = line[enter] ?? 0;
    if (pivot > tolerance) least = Math.min(least, (line[limit] ?? 0) / pivot);
  }
  let leave = -1;
  table.forEach((line, i) => {
    const pivot = line[enter] ?? 0;
    if (pivot <= tolerance || (line[limit] ?? 0) / pivot > least * (1 + 1e-12) + 1e-14) return;
    if (leave < 0 || (bland ? (basis[i] ?? 0) < (basis[leave] ?? 0) : pivot > (table[leave]?.[enter] ?? 0))) leave = i;
  });
  return leave;
}
