// Page layer: what a touch of a die or a button makes of an expression that is being typed. Pure; the server knows the grammar.

/** `EXPRESSION # LABEL` in its two parts; the label keeps its sign. */
export function partsOf(typed: string): [string, string] {
  const at = typed.indexOf("#");
  return at < 0 ? [typed.trim(), ""] : [typed.slice(0, at).trim(), ` ${typed.slice(at)}`];
}

/** One more of these: `2d6 + 3` becomes `3d6 + 3`, or `2d6 + 1d8 + 3`. */
export function withDie(typed: string, sides: number): string {
  const [expression, label] = partsOf(typed);
  const die = new RegExp(`(^|[+\\s])(\\d*)d${sides}(?![\\d%a-z])`);
  const flat = /\s*[+-]\s*\d+$/.exec(expression);
  if (!expression) return `1d${sides}${label}`;
  if (die.test(expression)) {
    const more = (_: string, before: string, count: string) => `${before}${Number(count || 1) + 1}d${sides}`;
    return expression.replace(die, more) + label;
  }
  if (flat) return `${expression.slice(0, flat.index)} + 1d${sides}${flat[0]}${label}`;
  return `${expression} + 1d${sides}${label}`;
}

/** The number at its end grows or shrinks, and goes at nought. */
export function shifted(typed: string, by: number): string {
  const [expression, label] = partsOf(typed);
  const flat = /\s*([+-])\s*(\d+)$/.exec(expression);
  const before = flat ? expression.slice(0, flat.index) : expression || "1d20";
  const value = (flat ? Number(`${flat[1]}${flat[2]}`) : 0) + by;
  return (value ? `${before} ${value < 0 ? "-" : "+"} ${Math.abs(value)}` : before) + label;
}

type Luck = "advantage" | "disadvantage";
const KEEPS: Record<Luck, string> = { advantage: "kh1", disadvantage: "kl1" };

export function luckOf(typed: string): Luck | null {
  const [, which] = /2d20k([hl])1?(?!\d)/.exec(typed) ?? [];
  return which === "h" ? "advantage" : which === "l" ? "disadvantage" : null;
}

/** Two d20 instead of one, of which one counts; asked again, one is enough. */
export function turned(typed: string, luck: Luck): string {
  const [expression, label] = partsOf(typed);
  const wanted = luckOf(expression) === luck ? "1d20" : `2d20${KEEPS[luck]}`;
  const d20 = /\d*d20(?:k[hl]\d*)?(?!\d)/;
  if (d20.test(expression)) return expression.replace(d20, wanted) + label;
  return (expression ? `${wanted} + ${expression}` : wanted) + label;
}
