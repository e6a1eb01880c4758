/** Money and exact decimals: integers inside, rounding only where a figure is shown. */

/** One unit of a currency in nanos: money is counted in 1e-9 of its currency. */
export const nanosPerUnit = 1_000_000_000n;

/** An amount of one currency. The currency is part of the type: `Money<'USD'>` and `Money<'EUR'>` do not add. */
export interface Money<C extends string = string> {
  /** ISO 4217, upper case. */
  readonly currency: C;
  /** 1e-9 of the currency. */
  readonly nanos: bigint;
}

/** Two amounts of different currencies met; there is no rate here to convert them with. */
export class CurrencyMismatchError extends Error {
  override readonly name = 'CurrencyMismatchError';
  constructor(readonly left: string, readonly right: string) {
    super(`${left} and ${right} cannot be added or compared`);
  }
}

/** A text that is not a decimal number. */
export class DecimalFormatError extends Error {
  override readonly name = 'DecimalFormatError';
  constructor(readonly text: string) {
    super(`not a decimal number: ${JSON.stringify(text.slice(0, 40))}`);
  }
}

/** Adds two amounts. @throws CurrencyMismatchError when the currencies differ. */
export function addMoney<C extends string>(left: Money<C>, right: Money<NoInfer<C>>): Money<C> {
  if (left.currency !== right.currency) throw new CurrencyMismatchError(left.currency, right.currency);
  return { currency: left.currency, nanos: left.nanos + right.nanos };
}

/** Negative, zero or positive as left is below, equal to or above right. @throws CurrencyMismatchError */
export function compareMoney<C extends string>(left: Money<C>, right: Money<NoInfer<C>>): number {
  if (left.currency !== right.currency) throw new CurrencyMismatchError(left.currency, right.currency);
  return left.nanos < right.nanos ? -1 : left.nanos > right.nanos ? 1 : 0;
}

/** Reads a decimal amount ("0.096") as money; digits below 1e-9 are rounded half to even. @throws DecimalFormatError */
export function moneyFromDecimal<C extends string>(text: string, currency: C): Money<C> {
  return { currency, nanos: scaleDecimal(parseDecimal(text), 9) };
}

/** The amount as a decimal text with at most `decimals` places (half to even), without trailing zeros. */
export function moneyToDecimal(money: Money, decimals = 9): string {
  const rounded = scaleDecimal({ digits: money.nanos, scale: 9 }, decimals);
  const text = decimalToText({ digits: rounded, scale: decimals });
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

/** The amount as a double, for display and statistics only: sums are made before, in nanos. */
export function moneyToNumber(money: Money): number {
  return Number(money.nanos) / 1e9;
}

/** An exact decimal: `digits` x 10^-`scale`. Addition never rounds, so a bill's sum is right to the last digit. */
export interface ExactDecimal {
  readonly digits: bigint;
  readonly scale: number;
}

export const zeroDecimal: ExactDecimal = { digits: 0n, scale: 0 };

const decimalForm = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,4}))?$/;

/** Reads `-12.50`, `.5`, `3`, `4E-7`. @throws DecimalFormatError for anything else. */
export function parseDecimal(text: string): ExactDecimal {
  const match = decimalForm.exec(text.trim());
  const whole = match?.[2] ?? '';
  const fraction = match?.[3] ?? '';
  if (!match || whole.length + fraction.length === 0) throw new DecimalFormatError(text);
  const magnitude = BigInt(whole + fraction);
  const digits = match[1] === '-' ? -magnitude : magnitude;
  const scale = fraction.length - Number(match[4] ?? '0');
  return scale >= 0 ? { digits, scale } : { digits: digits * 10n ** BigInt(-scale), scale: 0 };
}

/** The exact sum, at the finer scale of the two. */
export function addDecimals(left: ExactDecimal, right: ExactDecimal): ExactDecimal {
  if (left.scale === right.scale) return { digits: left.digits + right.digits, scale: left.scale };
  const [coarse, fine] = left.scale < right.scale ? [left, right] : [right, left];
  return { digits: coarse.digits * 10n ** BigInt(fine.scale - coarse.scale) + fine.digits, scale: fine.scale };
}

/** Negative, zero or positive as left is below, equal to or above right, whatever their scales. */
export function compareDecimals(left: ExactDecimal, right: ExactDecimal): number {
  const difference = addDecimals(left, { digits: -right.digits, scale: right.scale }).digits;
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** The value as an integer of 10^-scale, rounded half to even where digits are lost. */
export function scaleDecimal(value: ExactDecimal, scale: number): bigint {
  if (scale >= value.scale) return value.digits * 10n ** BigInt(scale - value.scale);
  return divideHalfEven(value.digits, 10n ** BigInt(value.scale - scale));
}

/** Plain notation with the value's own number of places ("20.52022672899"). */
export function decimalToText({ digits, scale }: ExactDecimal): string {
  const sign = digits < 0n ? '-' : '';
  const text = (digits < 0n ? -digits : digits).toString().padStart(scale + 1, '0');
  return scale === 0 ? sign + text : `${sign}${text.slice(0, -scale)}.${text.slice(-scale)}`;
}

/** numerator / denominator (> 0), rounded half to even. */
export function divideHalfEven(numerator: bigint, denominator: bigint): bigint {
  const negative = numerator < 0n;
  const magnitude = negative ? -numerator : numerator;
  let quotient = magnitude / denominator;
  const twice = 2n * (magnitude - quotient * denominator);
  if (twice > denominator || (twice === denominator && (quotient & 1n) === 1n)) quotient += 1n;
  return negative ? -quotient : quotient;
}

/**
 * Splits `total` (>= 0) over `weights` (>= 0, not all 0) by the method of largest remainders (Hamilton's): every part is the
 * floor or the ceiling of its exact share, and the parts sum to the total exactly. Equal remainders go by `before`, so that
 * the result does not depend on the order of the input. O(n log n) in the number of weights.
 * @throws RangeError when something is to be split and every weight is 0.
 */
export function apportion(total: bigint, weights: readonly bigint[], before: (left: number, right: number) => number): bigint[] {
  let sum = 0n;
  for (const weight of weights) sum += weight;
  if (sum <= 0n && total > 0n) throw new RangeError('an amount cannot be split over weights that are all zero');
  const parts = new Array<bigint>(weights.length);
  const remainders = new Array<bigint>(weights.length);
  let left = total;
  for (let i = 0; i < weights.length; i++) {
    const exact = total * (weights[i] as bigint);
    const part = exact === 0n ? 0n : exact / sum;
    parts[i] = part;
    remainders[i] = exact - part * sum;
    left -= part;
  }
  if (left > 0n) {
    const order: number[] = [];
    for (let i = 0; i < remainders.length; i++) if (remainders[i] !== 0n) order.push(i);
    order.sort((a, b) => {
      const ra = remainders[a] as bigint;
      const rb = remainders[b] as bigint;
      return ra > rb ? -1 : ra < rb ? 1 : before(a, b);
    });
    for (let i = 0; i < Number(left); i++) (parts[order[i] as number] as bigint) += 1n;
  }
  return parts;
}
