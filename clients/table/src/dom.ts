// Page layer: finding and making elements. Texts from others only ever become text.

type Child = Node | string | false | null | undefined;
type Value = string | number | boolean | ((event: Event) => void);

const SVG = "http://www.w3.org/2000/svg";

/** The element of the document with this id; its absence is a mistake of ours. */
export function $<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no #${id}`);
  return found as T;
}

/** `h("button", { class: "main", onclick: act }, "Go")`: functions listen, `false` leaves an attribute away. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Record<string, Value> = {}, ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child) made.append(child);
  return made;
}

/** A picture of the document's own set; it says nothing to a screen reader. */
export function icon(name: string): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function iconButton(name: string, label: string, act: () => void, className = "plain"): HTMLButtonElement {
  return h("button", { type: "button", class: className, "aria-label": label, title: label, onclick: act }, icon(name));
}

export function fill(parent: Element, ...children: Node[]): void {
  parent.replaceChildren(...children);
}
