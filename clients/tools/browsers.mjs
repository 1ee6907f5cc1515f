// Build layer: which APIs a program uses, by its types, and whether the browsers that we promise have them.
//
// esbuild turns new syntax into old; nobody turns a new method into an old one. TypeScript knows of each property whose
// it is, and MDN's data since when each browser has it. Usage: node tools/browsers.mjs TSCONFIG…; fails when one lacks something.

import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import data from "@mdn/browser-compat-data/forLegacyNode";
import ts from "typescript";

/** The oldest of each that a client runs in. */
export const BROWSERS = { chrome: 90, edge: 90, firefox: 88, safari: 14 };
export const TARGETS = Object.entries(BROWSERS).map(([name, version]) => `${name}${version}`);

/** Browsers that lack it, as "safari 15.4"; undefined: MDN tells nothing of it. */
function lacking(entry) {
  const support = entry?.__compat?.support;
  if (!support) return undefined;
  return Object.entries(BROWSERS).flatMap(([browser, version]) => {
    // without a flag and under its own name; what is said to be partial counts, as it mostly means a detail
    const plain = [support[browser] ?? []].flat().filter((each) => !each.flags && !each.prefix && !each.alternative_name);
    const there = plain.some((each) => numberOf(each.version_added) <= version && !(numberOf(each.version_removed) <= version));
    const since = Math.min(Infinity, ...plain.map((each) => numberOf(each.version_added)));
    return there ? [] : [`${browser} ${since === Infinity ? "never" : since}`];
  });
}

const numberOf = (text) => (typeof text === "string" && text !== "preview" ? parseFloat(text.replace("≤", "")) : Infinity);

/** MDN's entry of a member of a type, or of one of those that it inherits from or mixes in. */
function find(names, member) {
  const { api, javascript } = data;
  for (const name of names) {
    const bare = name.replace(/Constructor$/, "");
    for (const home of [api[name], javascript.builtins[name], javascript.builtins[bare]]) {
      const entry = home?.[member] ?? home?.[`${member}_static`] ?? (member.startsWith("on") ? home?.[`${member.slice(2)}_event`] : undefined);
      if (entry) return entry;
    }
  }
  return undefined;
}

const findGlobal = (name) => data.api[name] ?? data.javascript.builtins[name] ?? data.javascript.builtins.globals?.[name] ?? data.api.Window[name];

/** Complaints, sorted; and the names of all that was looked up. */
export function check(fileNames, options) {
  const program = ts.createProgram(fileNames, options);
  const checker = program.getTypeChecker();
  const complaints = new Set();
  const used = new Set();
  const ours = program.getSourceFiles().filter((file) => !file.isDeclarationFile);

  /** Declared by TypeScript's own libraries. */
  const builtIn = (symbol) => symbol?.declarations?.some((each) => program.isSourceFileDefaultLibrary(each.getSourceFile()));

  function namesOf(type, found = new Set()) {
    if (type.isUnionOrIntersection()) for (const each of type.types) namesOf(each, found);
    const name = type.symbol?.name;
    if (name && name !== "__type") found.add(name);
    // `declare var X: { prototype: X; new(): X; … }`: the type of the variable has no name but its own
    const holder = type.symbol?.declarations?.[0]?.parent;
    if (name === "__type" && holder && ts.isVariableDeclaration(holder)) found.add(holder.name.getText());
    for (const base of type.getBaseTypes?.() ?? []) namesOf(base, found);
    return found;
  }

  function complain(what, why, node) {
    const file = node.getSourceFile();
    const { line } = file.getLineAndCharacterOfPosition(node.getStart());
    complaints.add(`${file.fileName}:${line + 1}: ${what} is not for all browsers that we promise: ${why}`);
  }

  /** `object.method?.()`: whoever writes that knows that it may be missing. */
  function asksFirst({ parent }) {
    return ts.isCallExpression(parent) && parent.questionDotToken !== undefined;
  }

  function judge(what, entry, node) {
    if (!entry) return;
    used.add(what);
    const lacks = lacking(entry);
    if (lacks?.length && !asksFirst(node)) complain(what, `it came with ${lacks.join(", ")}`, node);
  }

  function member(object, name, node) {
    const property = checker.getPropertyOfType(checker.getApparentType(checker.getNonNullableType(object)), name);
    if (!builtIn(property)) return;
    const names = [...namesOf(checker.getApparentType(checker.getNonNullableType(object)))];
    for (const each of property.declarations) if (each.parent.name) names.push(each.parent.name.getText());
    judge(`${names[0]}.${name}`, find(names, name), node);
  }

  function visit(node) {
    if (ts.isPropertyAccessExpression(node)) member(checker.getTypeAtLocation(node.expression), node.name.text, node);
    else if (ts.isElementAccessExpression(node) && ts.isStringLiteral(node.argumentExpression)) {
      member(checker.getTypeAtLocation(node.expression), node.argumentExpression.text, node);
    } else if (ts.isObjectBindingPattern(node)) {
      for (const each of node.elements) member(checker.getTypeAtLocation(node), (each.propertyName ?? each.name).getText(), each);
    } else if (ts.isIdentifier(node) && !(ts.isPropertyAccessExpression(node.parent) && node.parent.name === node)) {
      const symbol = checker.getSymbolAtLocation(node);
      if (builtIn(symbol) && !symbol.parent && symbol.flags & ts.SymbolFlags.Value) judge(node.text, findGlobal(node.text), node);
    } else if (ts.isRegularExpressionLiteral(node) && /\(\?<[=!]/.test(node.text)) {
      judge("a lookbehind", data.javascript.regular_expressions.lookbehind_assertion, node);
    } else if (ts.isArrayBindingPattern(node) && node.elements.some((each) => each.dotDotDotToken)) {
      complain("the rest of a list in a pattern", "Safari before 14.1 may make no list of it", node);
    }
    if (!ts.isTypeNode(node)) ts.forEachChild(node, visit);
  }

  for (const file of ours) visit(file);
  return { complaints: [...complaints].sort(), used: [...used].sort() };
}

export function checkProject(config) {
  const { fileNames, options } = ts.parseJsonConfigFileContent(ts.readConfigFile(config, ts.sys.readFile).config, ts.sys, dirname(config));
  return check(fileNames, options);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const config of process.argv.slice(2)) {
    const { complaints, used } = checkProject(config);
    for (const each of complaints) console.error(each);
    const promised = Object.entries(BROWSERS).map(([name, version]) => `${name} ${version}`).join(", ");
    console.log(`${dirname(config)}: ${used.length} platform APIs, ${complaints.length} of them missing in ${promised}`);
    if (complaints.length) process.exitCode = 1;
  }
}
