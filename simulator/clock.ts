/** A clock that may start in the past and run fast until it meets the wall clock; it is never ahead of it. */
export function clockFrom(options: { readonly startMs: number; readonly startedAtWallMs: number; readonly speed: number }, wallMs: () => number): () => number {
  return () => {
    const wall = wallMs();
    return Math.min(wall, options.startMs + (wall - options.startedAtWallMs) * options.speed);
  };
}
