// Page layer: one dialog at a time, over everything: the keyboard stays inside it, Escape closes it, and the focus goes back.

import { $, fill, h } from "../dom.js";

const FOCUSABLE = "button, input, textarea, select, a[href]";
let close: (() => void) | null = null;

export function isOpen(): boolean {
  return close !== null;
}

/** Shows it; `done` is called when it closes, however it does. Returns what closes it. */
export function open(title: string, content: Node[], done: () => void = () => undefined): () => void {
  close?.();
  const before = document.activeElement as HTMLElement | null;
  const host = $("modal");
  const heading = h("h2", { id: "modal-title" }, title);
  const box = h("div", { class: "card", role: "dialog", "aria-modal": "true", "aria-labelledby": "modal-title", tabindex: "-1" });
  box.append(heading, ...content);
  const shut = (): void => {
    if (close !== shut) return;
    close = null;
    document.removeEventListener("keydown", keys, true);
    host.hidden = true;
    fill(host);
    before?.focus();
    done();
  };
  const keys = (event: KeyboardEvent): void => {
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      shut();
    } else if (event.key === "Tab") {
      const stops = [...box.querySelectorAll<HTMLElement>(FOCUSABLE)];
      const [first, last] = [stops[0], stops[stops.length - 1]];
      const at = document.activeElement;
      const outside = !box.contains(at) || at === box;
      const leaves = event.shiftKey ? at === first || outside : at === last || outside;
      if (leaves) {
        event.preventDefault();
        (event.shiftKey ? last : first)?.focus();
      }
    }
  };
  host.onpointerdown = (event) => event.target === host && shut();
  fill(host, box);
  host.hidden = false;
  document.addEventListener("keydown", keys, true);
  close = shut;
  (box.querySelector<HTMLElement>("input, textarea") ?? box.querySelector<HTMLElement>("button") ?? box).focus();
  return shut;
}

/** Asks a question; true: the one who was asked agrees. */
export function confirm(title: string, text: string, yes: string): Promise<boolean> {
  return new Promise((resolve) => {
    let agreed = false;
    const answer = (value: boolean): void => {
      agreed = value;
      shut();
    };
    const shut = open(
      title,
      [
        h("p", {}, text),
        h(
          "p",
          { class: "answers" },
          h("button", { type: "button", onclick: () => answer(false) }, "No"),
          h("button", { type: "button", class: "main", onclick: () => answer(true) }, yes),
        ),
      ],
      () => resolve(agreed),
    );
  });
}

/** Asks for a title and, if wanted, a text. */
export function write(
  heading: string, fields: { title: string; text?: string; label: string }, keep: (title: string, text: string) => void,
): void {
  const title = h("input", { required: true, maxlength: 200, value: fields.title });
  const text = h("textarea", { rows: 5, maxlength: 2000 });
  text.value = fields.text ?? "";
  const form = h("form", { class: "fields", autocomplete: "off" });
  form.append(
    h("label", { class: "field" }, fields.label, title),
    ...(fields.text === undefined ? [] : [h("label", { class: "field" }, "Text", text)]),
    h(
      "p",
      { class: "answers" },
      h("button", { type: "button", onclick: () => shut() }, "Cancel"),
      h("button", { class: "main" }, "Share"),
    ),
  );
  const shut = open(heading, [form]);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!title.value.trim()) return;
    shut();
    keep(title.value.trim(), text.value.trim());
  });
}
