// Shell layer: what the browser tells of the page: seen or hidden, kept for later, on or off line. Knows no client.

export interface PageEvents {
  /** Something changed for the better, or may have: look at once. */
  wake(): void;
  /** The page may be kept, with all its state, for when somebody comes back to it. */
  suspend(): void;
  hidden(hidden: boolean): void;
}

/** Returns what ends it. */
export function watchPage(on: PageEvents): () => void {
  if (typeof window === "undefined" || typeof document === "undefined") return () => {};
  const stops: (() => void)[] = [];
  function listen(target: EventTarget, name: string, handler: (event: Event) => void): void {
    target.addEventListener(name, handler);
    stops.push(() => target.removeEventListener(name, handler));
  }
  listen(window, "online", () => on.wake());
  listen(window, "offline", () => on.wake()); // sockets seldom hear of it by themselves
  listen(window, "pageshow", () => on.wake());
  listen(window, "pagehide", (event) => {
    if ((event as PageTransitionEvent).persisted) on.suspend();
  });
  listen(document, "visibilitychange", () => {
    on.hidden(document.hidden);
    if (!document.hidden) on.wake();
  });
  return () => {
    for (const stop of stops.splice(0)) stop();
  };
}

export const pageIsHidden = (): boolean => typeof document !== "undefined" && document.hidden;
