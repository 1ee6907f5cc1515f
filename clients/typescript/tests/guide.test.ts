// The examples of the documents: whole programs, checked by the types that people get, and run against a real table.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { promisify } from "node:util";
import { transformSync } from "esbuild";
import ts from "typescript";
import { GATEWAYS, newRoom } from "./support/table.js";

interface Example {
  page: string;
  title: string;
  program: string;
  output: string;
}

/** The programs of a page in that language, each with the output that stands below it. */
function examples(page: string, language: string): Example[] {
  const text = readFileSync(`../docs/clients/${page}`, "utf8");
  const found = [...text.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`\\n\\n\`\`\`text\\n(.*?)^\`\`\``, "gms"))];
  assert.equal(found.length, text.split(`\`\`\`${language}\n`).length - 1, `each program of ${page} has an output`);
  return found.map(({ index, 1: program, 2: output }) => {
    const title = text.slice(0, index).match(/^## (.*)$/gm)!.pop()!.slice(3);
    return { page, title, program: program!, output: output! };
  });
}

const GUIDE = [...examples("typescript.md", "ts"), ...examples("../../README.md", "js")];
/** Beside the built client, so that its name leads there. */
const FOLDER = "typescript/build/guide";

mkdirSync(FOLDER, { recursive: true });

test("the guide's programs are right by the client's types", () => {
  const files = GUIDE.map(({ program }, number) => {
    const file = `${FOLDER}/example-${number}.ts`;
    writeFileSync(file, program);
    return file;
  });
  const found = ts.getPreEmitDiagnostics(ts.createProgram(files, {
    noEmit: true, strict: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext, exactOptionalPropertyTypes: true, types: [],
    lib: ["lib.es2022.d.ts", "lib.dom.d.ts", "lib.dom.iterable.d.ts"],
  }));
  for (const file of files) rmSync(file);
  assert.deepEqual(found.map(({ file, messageText }) => `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`), []);
});

for (const [number, { page, title, program, output }] of [...GUIDE, ...examples("write-your-own.md", "js")].entries()) {
  test(`${page}, "${title}": the program says what the page says`, async () => {
    const here = program.replaceAll("localhost:8080", `127.0.0.1:${GATEWAYS()[0]}`).replaceAll(/\blobby\b/g, newRoom());
    const socket = 'import { WebSocket } from "ws"; globalThis.WebSocket ??= WebSocket;\n';
    const file = `${FOLDER}/example-${number}.mjs`;
    writeFileSync(file, socket + transformSync(here, { loader: "ts", target: "node20" }).code);
    try {
      const { stdout, stderr } = await promisify(execFile)(process.execPath, [file], { timeout: 60_000 });
      assert.equal(stderr, "");
      assert.equal(stdout, output);
    } finally {
      rmSync(file);
    }
  });
}
