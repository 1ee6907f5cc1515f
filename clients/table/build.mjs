// Builds the page into the gateway's package: names with a hash of what is in them, each also compressed.

import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { constants, gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const target = here("../../services/gateway/src/roundtable/gateway/web/dist/");

const { outputFiles } = await build({
  entryPoints: { main: here("src/main.ts"), style: here("src/style/main.css") },
  outdir: target,
  bundle: true,
  format: "esm",
  minify: true,
  charset: "utf8",
  legalComments: "none",
  target: ["chrome90", "firefox88", "safari14", "edge90"],
  supported: { destructuring: true }, // Safari 14 has it, but for one corner that is not used here
  logLevel: "warning",
  write: false,
});
const built = new Map(outputFiles.map(({ path, contents }) => [path.endsWith(".css") ? "main.css" : "main.js", Buffer.from(contents)]));
built.set("icon.svg", await readFile(here("src/icon.svg")));

const named = new Map();
for (const [name, body] of built) {
  const hash = createHash("sha256").update(body).digest("hex").slice(0, 10);
  named.set(name, name.replace(".", `-${hash}.`));
}
const page = (await readFile(here("src/index.html"), "utf8")).replace(/\{([a-z]+\.[a-z]+)\}/g, (whole, name) => {
  if (!named.has(name)) throw new Error(`index.html names ${whole}, which is not built`);
  return `/static/${named.get(name)}`;
});

await rm(target, { recursive: true, force: true });
await mkdir(target, { recursive: true });
let bytes = 0;
for (const [name, body] of [["index.html", Buffer.from(page)], ...[...built].map(([name, body]) => [named.get(name), body])]) {
  const packed = gzipSync(body, { level: constants.Z_BEST_COMPRESSION });
  await writeFile(target + name, body);
  await writeFile(`${target}${name}.gz`, packed);
  bytes += packed.length;
}
console.log(`table: ${named.size + 1} files, ${(bytes / 1024).toFixed(1)} KB gzipped`);

await build({
  entryPoints: [here("tests/parts.test.ts")],
  outfile: here("build/parts.test.mjs"),
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  logLevel: "warning",
});
