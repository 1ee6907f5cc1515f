// Build layer: the client as people get it: an ES module, a plain script, and the types.

import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { TARGETS } from "../tools/browsers.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
/** Bytes, gzipped. */
const LIMIT = 12_000;

const from = (path) => join(HERE, path);
const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");
for (const project of [HERE, from("tests")]) {
  const { status } = spawnSync(process.execPath, [tsc, "--pretty", "false", "--project", project], { stdio: ["ignore", 2, 2] });
  if (status !== 0) process.exit(1);
}

const common = {
  entryPoints: [from("src/index.ts")],
  bundle: true,
  target: TARGETS,
  // esbuild distrusts destructuring before Safari 14.1 for one fault, the rest of a list; tools/browsers.mjs lets none through.
  supported: { destructuring: true },
  legalComments: "none",
  logLevel: "warning",
};
await build({ ...common, format: "esm", outfile: from("dist/index.js") });
await build({ ...common, format: "iife", globalName: "Roundtable", minify: true, outfile: from("dist/roundtable.min.js") });

await build({
  entryPoints: readdirSync(from("tests")).filter((name) => name.endsWith(".test.ts")).map((name) => from(`tests/${name}`)),
  bundle: true,
  platform: "node",
  format: "esm",
  packages: "external",
  external: ["../../tools/*", "../dist/index.js"],
  outdir: from("build"),
  outExtension: { ".js": ".mjs" },
  logLevel: "warning",
});

const script = readFileSync(from("dist/roundtable.min.js"));
const size = gzipSync(script, { level: 9 }).length;
console.log(`@roundtable/client: roundtable.min.js ${script.length} bytes, gzipped ${size} of at most ${LIMIT}`);
if (size > LIMIT) process.exitCode = 1;
