// Page layer: how people and times look. Pure.

/** As many as the style sheet has colours `who-0` …; each is dark enough for white letters. */
const COLORS = [
  "#b3261e", "#a6480a", "#7d5700", "#4c6b00", "#1c7340", "#00706b", "#00658f", "#2a5bc9", "#5b4bc4", "#8236b0", "#a12b84",
  "#8a3c50",
];

function place(userId: string): number {
  let hash = 7;
  for (const char of userId) hash = (Math.imul(hash, 31) + char.codePointAt(0)!) | 0;
  return (hash >>> 0) % COLORS.length;
}

/** A colour of one's own for each user, the same at everybody's. */
export function colorOf(userId: string): string {
  return COLORS[place(userId)]!;
}

export function classOf(userId: string): string {
  return `who-${place(userId)}`;
}

export function initialsOf(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0]!, words[words.length - 1]!] : words;
  return letters.map((word) => [...word][0]).join("").toUpperCase() || "?";
}

export function clock(timestamp: number): string {
  return new Date(timestamp).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

export function latencyText(ms: number): string {
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}
