import fc from 'fast-check';
import {
  addDecimals, addMoney, apportion, compareDecimals, compareMoney, CurrencyMismatchError, DecimalFormatError, decimalToText, divideHalfEven, moneyFromDecimal,
  moneyToDecimal, moneyToNumber, parseDecimal, scaleDecimal, zeroDecimal, type Money,
} from './money.js';

const byIndex = (left: number, right: number): number => left - right;

describe('money', () => {
  it('reads and writes decimals to the nano', () => {
    expect(moneyFromDecimal('0.096', 'USD')).toEqual({ currency: 'USD', nanos: 96_000_000n });
    expect(moneyFromDecimal('0.0000000005', 'USD').nanos).toBe(0n);
    expect(moneyFromDecimal('0.0000000015', 'USD').nanos).toBe(2n);
    expect(moneyToDecimal({ currency: 'USD', nanos: 32_772_600_000n })).toBe('32.7726');
    expect(moneyToDecimal({ currency: 'USD', nanos: 5_000_000_000n })).toBe('5');
    expect(moneyToDecimal({ currency: 'USD', nanos: -1_500_000_000n }, 0)).toBe('-2');
    expect(moneyToDecimal({ currency: 'USD', nanos: 0n })).toBe('0');
    expect(moneyToNumber({ currency: 'USD', nanos: 250_000_000n })).toBe(0.25);
  });

  it('never adds or compares two currencies', () => {
    const dollars: Money = moneyFromDecimal('1', 'USD');
    const won: Money = moneyFromDecimal('1400', 'KRW');
    expect(() => addMoney(dollars, won)).toThrow(CurrencyMismatchError);
    expect(() => compareMoney(dollars, won)).toThrow('USD and KRW');
    expect(addMoney(dollars, dollars).nanos).toBe(2_000_000_000n);
    expect([compareMoney(dollars, dollars), compareMoney(dollars, moneyFromDecimal('2', 'USD')), compareMoney(dollars, moneyFromDecimal('0', 'USD'))]).toEqual([0, -1, 1]);
  });
});

describe('exact decimals', () => {
  it('reads every common notation', () => {
    const texts = ['-12.50', '.5', '3.', '+3', '4E-7', '0E-11', '1.5e3', ' 7 '];
    expect(texts.map((text) => decimalToText(parseDecimal(text)))).toEqual(['-12.50', '0.5', '3', '3', '0.0000004', '0.00000000000', '1500', '7']);
  });

  it.each(['', 'NULL', '1,5', '--1', '.', 'Infinity', '0x10', '1e99999'])('refuses %p', (text) => {
    expect(() => parseDecimal(text)).toThrow(DecimalFormatError);
  });

  it('adds without rounding where doubles do not', () => {
    expect(decimalToText(addDecimals(parseDecimal('0.1'), parseDecimal('0.20')))).toBe('0.30');
    const sum = ['9007199254740993', '0.00000000001', '-9007199254740993'].map(parseDecimal).reduce(addDecimals, zeroDecimal);
    expect(compareDecimals(sum, parseDecimal('1e-11'))).toBe(0);
    expect([compareDecimals(parseDecimal('1'), parseDecimal('1.01')), compareDecimals(parseDecimal('1'), parseDecimal('0.99'))]).toEqual([-1, 1]);
  });

  it('law: the sum does not depend on order, and a text survives the round trip', () => {
    const decimal = fc.tuple(fc.bigInt({ min: -(10n ** 20n), max: 10n ** 20n }), fc.integer({ min: 0, max: 15 })).map(([digits, scale]) => ({ digits, scale }));
    fc.assert(fc.property(fc.array(decimal, { maxLength: 20 }), (values) => {
      const forth = values.reduce(addDecimals, zeroDecimal);
      const back = [...values].reverse().reduce(addDecimals, zeroDecimal);
      expect(forth).toEqual(back);
      expect(parseDecimal(decimalToText(forth))).toEqual(forth);
    }));
  });

  it('rounds half to even', () => {
    expect([5n, 15n, 25n, -5n, -15n, 14n, 16n].map((value) => divideHalfEven(value, 10n))).toEqual([0n, 2n, 2n, 0n, -2n, 1n, 2n]);
    expect(scaleDecimal(parseDecimal('1.005'), 2)).toBe(100n);
  });
});

describe('apportion', () => {
  const weights = fc.array(fc.bigInt({ min: 0n, max: 10n ** 18n }), { minLength: 1, maxLength: 40 }).filter((all) => all.some((each) => each > 0n));
  const total = fc.bigInt({ min: 0n, max: 10n ** 15n });

  it('law: the parts sum to the total, each within one of its exact share, none for no weight', () => {
    fc.assert(fc.property(total, weights, (amount, each) => {
      const parts = apportion(amount, each, byIndex);
      const sum = each.reduce((a, b) => a + b, 0n);
      expect(parts.reduce((a, b) => a + b, 0n)).toBe(amount);
      parts.forEach((part, i) => {
        const weight = each[i] as bigint;
        const floor = (amount * weight) / sum;
        expect(part === floor || part === floor + 1n).toBe(true);
        if (weight === 0n) expect(part).toBe(0n);
      });
    }), { numRuns: 1000 });
  });

  it('law: a larger weight never gets less', () => {
    fc.assert(fc.property(total, weights, (amount, each) => {
      const parts = apportion(amount, each, byIndex);
      const order = each.map((_, i) => i).sort((a, b) => ((each[a] as bigint) < (each[b] as bigint) ? -1 : 1));
      for (let i = 1; i < order.length; i++) {
        const [low, high] = [order[i - 1] as number, order[i] as number];
        if (each[low] !== each[high]) expect((parts[low] as bigint) <= (parts[high] as bigint)).toBe(true);
      }
    }), { numRuns: 500 });
  });

  it('gives what is left to the largest remainders, equal ones in the given order', () => {
    expect(apportion(10n, [1n, 1n, 1n], byIndex)).toEqual([4n, 3n, 3n]);
    expect(apportion(10n, [1n, 1n, 1n], (a, b) => b - a)).toEqual([3n, 3n, 4n]);
    expect(apportion(100n, [1n, 2n, 3n], byIndex)).toEqual([17n, 33n, 50n]);
  });

  it('splits nothing over nothing and refuses to split something over nothing', () => {
    expect(apportion(0n, [0n, 0n], byIndex)).toEqual([0n, 0n]);
    expect(() => apportion(1n, [0n, 0n], byIndex)).toThrow(RangeError);
  });
});
