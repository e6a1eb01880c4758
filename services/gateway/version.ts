/** UPID's version, as `/health` and OpenAPI say it. */
export const VERSION = '0.1.0';
