/** Tests on the control plane: they say why they are skipped, and in CI never are. */
import { controlPlaneAvailability } from './build.js';

/** For `beforeAll`: building the control plane takes minutes where it has not been built before. */
export const CONTROL_PLANE_TIMEOUT_MS = 30 * 60_000;

/**
 * `describe` for tests that start a control plane. Where none can be built the tests are skipped and standard error says why;
 * with CI=true they fail instead.
 */
export function describeWithControlPlane(name: string, body: () => void): void {
  const availability = controlPlaneAvailability();
  if (availability.available) {
    describe(name, body);
  } else if (process.env['CI'] === 'true') {
    describe(name, () => {
      it('has a control plane to run on', () => {
        throw new Error(`There is no control plane here: ${availability.reason}.`);
      });
    });
  } else {
    process.stderr.write(`SKIPPED: ${name}: ${availability.reason}.\n`);
    describe.skip(`${name} (skipped: ${availability.reason})`, body);
  }
}
