import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { orderSources } from './node-price.js';
import { PriceSheetError, readPriceSheet, type PriceSource } from './price-sheet.js';

function read(file: string, name: string, bundled: boolean): PriceSource {
  let document: unknown;
  try {
    document = parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new PriceSheetError(name, [`it cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`], { cause });
  }
  return readPriceSheet(document, name, { bundled });
}

/**
 * The price sources in the order in which they answer: the user's sheet (YAML or JSON, ours or OpenCost's), where a file is
 * named, and the shipped copy of the clouds' lists. @throws {PriceSheetError}
 */
export function loadPriceSources(file: string | null): PriceSource[] {
  const shipped = read(join(import.meta.dirname, 'list-prices.yaml'), 'list-prices.yaml', true);
  return orderSources([...(file === null ? [] : [read(file, file, false)]), shipped]);
}
