import fc from 'fast-check';
import { maximise } from './simplex.js';

describe('the simplex method', () => {
  it('solves what is in the books', () => {
    const solved = maximise([3, 5], [Float64Array.of(1, 0), Float64Array.of(0, 2), Float64Array.of(3, 2)], [4, 12, 18]);
    expect(solved?.value).toBeCloseTo(36, 9);
    expect(solved?.x.map((x) => Math.round(x * 1e6) / 1e6)).toEqual([2, 6]);
  });

  it('does not cycle where rows tie', () => {
    const rows = [Float64Array.of(0.25, -60, -1 / 25, 9), Float64Array.of(0.5, -90, -1 / 50, 3), Float64Array.of(0, 0, 1, 0)];
    expect(maximise([0.75, -150, 0.02, -6], rows, [0, 0, 1])?.value).toBeCloseTo(0.05, 9);
  });

  it('says when nothing limits', () => {
    expect(maximise([1, 1], [Float64Array.of(1, 0)], [1])).toBeNull();
    expect(maximise([-1], [], [])?.value).toBe(0);
  });

  it('keeps the limits and is beaten by no corner of a covering dual', () => {
    const amount = fc.double({ min: 0.01, max: 10, noNaN: true });
    fc.assert(fc.property(fc.array(fc.tuple(amount, amount, amount, amount), { minLength: 1, maxLength: 12 }), amount, amount, amount, (offers, a, b, c) => {
      const solved = maximise([a, b, c], offers.map(([x, y, z]) => Float64Array.of(x, y, z)), offers.map(([, , , price]) => price));
      expect(solved).not.toBeNull();
      for (const [x, y, z, price] of offers) expect(x * (solved?.x[0] ?? 0) + y * (solved?.x[1] ?? 0) + z * (solved?.x[2] ?? 0)).toBeLessThanOrEqual(price * (1 + 1e-6));
      // Any one offer bought often enough covers (a, b, c): its cost is an upper bound on every value.
      const cover = Math.min(...offers.map(([x, y, z, price]) => price * Math.max(a / x, b / y, c / z)));
      expect(solved?.value).toBeLessThanOrEqual(cover * (1 + 1e-6));
      // Pricing one resource alone is feasible, so the best is at least that.
      const alone = Math.max(...[a, b, c].map((asked, r) => asked * Math.min(...offers.map((offer) => (offer[3]) / (offer[r] ?? 1)))));
      expect(solved?.value).toBeGreaterThanOrEqual(alone * (1 - 1e-6));
    }));
  });
});
