// Builds src/ into ../service/console: the same sources give the same bytes.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync, copyFileSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const built = join(here, "..", "service", "console");
const FILES = ["app.css", "app.js", "icon.svg", "index.html"];

const sha = (data) => createHash("sha256").update(data).digest("hex");

/** Every file that the result depends on, by its path below console/. */
function sources() {
  const inside = readdirSync(join(here, "src"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(here.length + 1).replaceAll("\\", "/"));
  return ["build.mjs", "package-lock.json", "tsconfig.json", ...inside].sort();
}

const stamp = sha(sources().map((path) => `${path} ${sha(readFileSync(join(here, path)))}\n`).join(""));

mkdirSync(built, { recursive: true });
await build({
  absWorkingDir: here,
  entryPoints: { app: "src/main.tsx" },
  outdir: built,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  charset: "utf8",
  legalComments: "inline",
  logLevel: "warning",
});
for (const name of ["index.html", "icon.svg"]) copyFileSync(join(here, "src", name), join(built, name));
const files = Object.fromEntries(FILES.map((name) => [name, sha(readFileSync(join(built, name)))]));
writeFileSync(join(built, "built.json"), JSON.stringify({ sources: stamp, files }, null, 2) + "\n");
