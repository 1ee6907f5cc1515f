// Codec layer: the text of an event stream into its events (WHATWG HTML, 9.2.6), as far as our server goes. Pure.

export interface StreamEvent {
  name: string;
  data: string;
}

export class StreamParser {
  private rest = "";
  private name = "";
  private data: string[] = [];

  /** The events that this piece of text completes. */
  feed(text: string): StreamEvent[] {
    const found: StreamEvent[] = [];
    // A carriage return at the end may be the first half of a line's end.
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop()!;
    for (const line of lines) {
      const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line)!;
      if (line === "") {
        if (this.data.length) found.push({ name: this.name || "message", data: this.data.join("\n") });
        this.name = "";
        this.data = [];
      } else if (field === "event") this.name = value!;
      else if (field === "data") this.data.push(value!);
    }
    return found;
  }
}
