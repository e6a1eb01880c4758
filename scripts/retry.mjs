// Tests with real servers on a shared machine: one that fails is told, and tried once more.
import.meta.jest.retryTimes(1, { logErrorsBeforeRetry: true });
