import { resolve } from 'node:path';

/** The root of the checkout, from the compiled file's place (cli/dist/up/root.js). */
export const ROOT = resolve(import.meta.dirname, '..', '..', '..');
