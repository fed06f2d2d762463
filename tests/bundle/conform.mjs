// The conformance pictures in Node: onnxruntime-web on pixels that were decoded elsewhere.
//
//     node conform.mjs ONNXRUNTIME BUNDLE PIXELS PRECISION
//
// PIXELS has a file NAME.WIDTHxHEIGHT of RGB bytes for each. Prints a JSON list of records.
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [ortFile, bundle, pixels, precision] = process.argv.slice(2);
const ort = await import(pathToFileURL(ortFile));
const { Extractor } = await import(pathToFileURL(join(bundle, "fever.js")));
ort.env.wasm.numThreads = 1;
const read = (name) => readFile(join(bundle, name));
const extractor = await Extractor.load(bundle, ort, { precision, read });
const answers = {};
for (const file of await readdir(pixels)) {
  const [, name, width, height] = file.match(/^(.*)\.(\d+)x(\d+)$/);
  const image = { width: Number(width), height: Number(height), data: await readFile(join(pixels, file)) };
  const [record] = await extractor.extractRecords([image], { allFaces: true });
  answers[name] = { ...record, faces: record.faces.map((face) => ({ ...face, embedding: [...face.embedding] })) };
}
console.log(JSON.stringify(answers));
