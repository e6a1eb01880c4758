import type { NodeOffer } from './model.js';

/** One type as karpenter's catalogue file names it. */
export interface InstanceType {
  readonly name: string;
  readonly architecture: string;
  readonly operatingSystems: readonly string[];
  /** Kubernetes quantities by resource. */
  readonly resources: Readonly<Record<string, string>>;
  readonly offerings: readonly {
    readonly Price: number;
    readonly Available: boolean;
    readonly Requirements: readonly { readonly key: string; readonly operator: string; readonly values: readonly string[] }[];
  }[];
}

const SUFFIXES: Readonly<Record<string, number>> = {
  '': 1, n: 1e-9, u: 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50, Ei: 2 ** 60,
};

/** Text that is no Kubernetes quantity. */
export class QuantityError extends RangeError {
  constructor(text: string) {
    super(`not a Kubernetes quantity: ${JSON.stringify(text)}`);
  }
}

/** A Kubernetes quantity (`250m`, `1.5Gi`, `1e3`) as a number. @throws {QuantityError} */
export function parseQuantity(text: string): number {
  const [, amount, suffix] = /^([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([numkMGTPE]|[KMGTPE]i)?$/.exec(text.trim()) ?? [];
  const unit = SUFFIXES[suffix ?? ''];
  if (amount === undefined || unit === undefined) throw new QuantityError(text);
  return Number(amount) * unit;
}

/** Amounts in the units of the model: CPU in millicores, the rest as the quantity says. @throws {QuantityError} */
export function amountsOf(quantities: Readonly<Record<string, string | number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(quantities).map(([name, quantity]) => [name, parseQuantity(String(quantity)) * (name === 'cpu' ? 1000 : 1)]));
}

/** Every offering of a catalogue that is to be had. @throws {QuantityError} */
export function offersOf(types: readonly InstanceType[]): NodeOffer[] {
  return types.flatMap((type) => {
    const allocatable = amountsOf(type.resources);
    return type.operatingSystems.flatMap((operatingSystem) => type.offerings.filter(({ Available }) => Available).map((offering): NodeOffer => {
      const requirement = (key: string) => offering.Requirements.find((each) => each.key === key)?.values[0] ?? '';
      return {
        type: type.name, zone: requirement('topology.kubernetes.io/zone'), capacityType: requirement('karpenter.sh/capacity-type'), pricePerHour: offering.Price,
        architecture: type.architecture, operatingSystem, allocatable,
      };
    }));
  });
}
