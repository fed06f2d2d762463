// What fever.js says of bundles, runtimes and calls that can't be used. Prints a JSON object.
//
//     node refusals.mjs ONNXRUNTIME BUNDLE
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [ortFile, bundle] = process.argv.slice(2);
const ort = await import(pathToFileURL(ortFile));
const { Extractor } = await import(pathToFileURL(join(bundle, "fever.js")));
ort.env.wasm.numThreads = 1;

const said = {};
const expectRefusal = async (name, action) => {
  try {
    await action();
    said[name] = "(no refusal)";
  } catch (error) {
    said[name] = error.message;
  }
};
/** The bundle with some files changed. */
const reading = (changes) => async (name) => {
  const data = await readFile(join(bundle, name));
  return changes[name] ? changes[name](data) : data;
};
const load = (changes, options = {}, runtime = ort) => () =>
  Extractor.load(bundle, runtime, { read: reading(changes), ...options });
const manifest = (change) => ({ "bundle.json": (data) => Buffer.from(JSON.stringify({ ...JSON.parse(data), ...change })) });

await expectRefusal("changed", load({ "onet.onnx": (data) => Buffer.concat([data.subarray(1), Buffer.from([0])]) }));
await expectRefusal("missing", load({ "rnet.onnx": () => Promise.reject(new Error("gone")) }));
await expectRefusal("version", load(manifest({ bundle_version: 2 })));
await expectRefusal("damaged", load({ "bundle.json": (data) => data.subarray(0, 10) }));
await expectRefusal("precision", load({}, { precision: "int4" }));
await expectRefusal("runtime", load({}, {}, { env: { versions: { web: "1.17.0" } } }));
const { validate } = WebAssembly;
WebAssembly.validate = () => false; // as where there is no SIMD
await expectRefusal("simd", load({}));
WebAssembly.validate = validate;
const extractor = await load({})();
const pixels = { width: 2, height: 2, data: new Uint8Array(8) };
await expectRefusal("option", () => extractor.extract([pixels], { minFace: 20 }));
await expectRefusal("pixels", () => extractor.extract([pixels]));
console.log(JSON.stringify(said));
