import fc from 'fast-check';
import { CorruptPackError, packColumn, packPresence, PackReader, PackWriter, skipColumn, unpackColumn, unpackPresence } from './column.js';

function roundTrip(values: readonly number[]): { back: number[]; bytes: number } {
  const out = new PackWriter();
  packColumn(out, Float64Array.from(values), 0, values.length);
  const bytes = out.take();
  const reader = new PackReader(bytes);
  const back = new Float64Array(values.length);
  unpackColumn(reader, back, 0, values.length);
  expect(reader.at).toBe(bytes.length);
  return { back: [...back], bytes: bytes.length };
}

const anyInteger = fc.oneof(fc.nat(3), fc.nat(1000), fc.nat(2 ** 31 - 1), fc.maxSafeNat(), fc.nat(100_000).map((pages) => pages * 4096), fc.constantFrom(0, 2 ** 32, 2 ** 32 * 3, Number.MAX_SAFE_INTEGER, 2 ** 52, 2 ** 31, 2 ** 48 - 1));

describe('packed columns', () => {
  it('gives back every value', () => {
    fc.assert(fc.property(fc.array(anyInteger, { maxLength: 80 }), (values) => {
      expect(roundTrip(values).back).toEqual(values);
    }), { numRuns: 2000 });
  });

  it('gives back levels with noise, drifts and jumps', () => {
    fc.assert(fc.property(fc.nat(2 ** 40), fc.array(fc.integer({ min: -500, max: 500 }), { minLength: 60, maxLength: 60 }), fc.array(fc.nat(59), { maxLength: 3 }), fc.constantFrom(1, 4096, 2 ** 20), (level, noise, jumps, unit) => {
      let drift = level;
      const values = noise.map((each, i) => {
        if (jumps.includes(i)) drift += 123_457;
        return (drift + 500 + each) * unit;
      }).filter((value) => Number.isSafeInteger(value));
      expect(roundTrip(values).back).toEqual(values);
    }));
  });

  it('stays small: constants in a few bytes, rare jumps near a bit a value, noise near its own entropy', () => {
    expect(roundTrip(new Array<number>(60).fill(0)).bytes).toBe(1);
    expect(roundTrip(new Array<number>(60).fill(250)).bytes).toBe(3);
    expect(roundTrip(Array.from({ length: 60 }, (_, i) => (i < 31 ? 500 : 8000))).bytes).toBeLessThanOrEqual(16);
    expect(roundTrip(Array.from({ length: 60 }, (_, i) => 400 + ((i * 37) % 64))).bytes).toBeLessThanOrEqual(60);
    expect(roundTrip(Array.from({ length: 60 }, (_, i) => (200_000 + ((i * 7) % 5)) * 4096)).bytes).toBeLessThanOrEqual(32);
  });

  it('passes over a column as long as it reads it', () => {
    const out = new PackWriter();
    packColumn(out, Float64Array.from({ length: 200 }, (_, i) => i * i), 0, 200);
    packColumn(out, Float64Array.of(7, 9), 0, 2);
    const reader = new PackReader(out.view());
    skipColumn(reader, 200);
    const last = new Float64Array(2);
    unpackColumn(reader, last, 0, 2);
    expect([...last]).toEqual([7, 9]);
  });

  it('says that cut or unknown bytes are corrupt', () => {
    const out = new PackWriter();
    packColumn(out, Float64Array.from({ length: 60 }, (_, i) => (i * 7919) % 1000), 0, 60);
    const cut = out.take().subarray(0, 20);
    expect(() => unpackColumn(new PackReader(cut), new Float64Array(60), 0, 60)).toThrow(CorruptPackError);
    expect(() => unpackColumn(new PackReader(Uint8Array.of(7)), new Float64Array(1), 0, 1)).toThrow(/mode 7/);
    expect(() => unpackColumn(new PackReader(Uint8Array.of(1)), new Float64Array(1), 0, 1)).toThrow(CorruptPackError);
    expect(() => new PackReader(new Uint8Array(12).fill(255)).varint()).toThrow(CorruptPackError);
    expect(() => new PackReader(Uint8Array.of(1)).raw(2)).toThrow(CorruptPackError);
  });

  it('writes nothing for no values', () => {
    const out = new PackWriter();
    packColumn(out, new Float64Array(0), 0, 0);
    expect(out.length).toBe(0);
    unpackColumn(new PackReader(out.take()), new Float64Array(0), 0, 0);
  });

  it('keeps which minutes are there', () => {
    fc.assert(fc.property(fc.constantFrom(5, 60), fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }), (span, flags) => {
      const rank = Uint8Array.from(flags.slice(0, span), (flag) => (flag ? 2 : 0));
      const out = new PackWriter();
      const count = packPresence(out, rank, 0, span);
      const minutes = new Uint8Array(60);
      expect(unpackPresence(new PackReader(out.view()), span, minutes)).toBe(count);
      expect([...minutes.subarray(0, count)]).toEqual([...rank].flatMap((each, i) => (each === 0 ? [] : [i])));
    }));
  });
});
