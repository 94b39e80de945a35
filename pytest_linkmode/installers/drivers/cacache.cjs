// Take a tree out of npm's cacache: what is not in the cache yet is put there first.
// Usage: node cacache.cjs PACKAGE CACHE SOURCE TARGET
"use strict";
const fs = require("node:fs");
const path = require("node:path");

const [, , place, cache, source, target] = process.argv;
const cacache = require(place);

async function main() {
  const names = fs
    .readdirSync(source, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(source, path.join(entry.parentPath, entry.name)))
    .sort();
  for (const name of names) {
    if (!(await cacache.get.info(cache, name))) {
      await cacache.put(cache, name, fs.readFileSync(path.join(source, name)));
    }
    fs.mkdirSync(path.dirname(path.join(target, name)), { recursive: true });
    await cacache.get.copy(cache, name, path.join(target, name));
  }
}

main().catch((error) => {
  console.error(String(error));
  process.exitCode = 1;
});
