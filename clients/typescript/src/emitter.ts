// Core layer: handlers by the name of what they hear. Knows no messages.

export type AnyHandler = (...args: any[]) => void;

export class Emitter {
  private readonly handlers = new Map<string, Set<AnyHandler>>();

  on(event: string, handler: AnyHandler): () => void {
    let those = this.handlers.get(event);
    if (!those) this.handlers.set(event, (those = new Set()));
    those.add(handler);
    return () => this.off(event, handler);
  }

  off(event: string, handler: AnyHandler): void {
    this.handlers.get(event)?.delete(handler);
  }

  /** A handler that throws keeps neither the others nor us from what is next: its error goes where uncaught ones go. */
  emit(event: string, ...args: unknown[]): void {
    for (const handler of [...(this.handlers.get(event) ?? [])]) {
      try {
        handler(...args);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
