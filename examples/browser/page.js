// The page: photographs or the camera in, boxes, probabilities, embeddings and similar faces out.
//
// ?precision=float32, int8      weights; float16 if left out
// ?device=webgpu                the GPU, where this browser has WebGPU
// ?bundle=FOLDER/               another folder of this server
import { conform } from "./conform.js";

const chosen = new URLSearchParams(location.search);
const bundle = new URL(chosen.get("bundle") ?? "bundle/", location.href).href;
const device = chosen.get("device") ?? "wasm";
const page = Object.fromEntries(["drop", "files", "camera", "check", "status", "live", "conformance", "photographs"].map((id) => [id, document.getElementById(id)]));
/** @type {{embedding: Float32Array, thumbnail: HTMLCanvasElement, similar: HTMLElement}[]} */
const known = [];

let extractor;
let queue = load(); // one thing after the other
page.files.onchange = () => {
  add(page.files.files);
  page.files.value = ""; // the same file may be chosen again
};
page.drop.ondragover = (event) => (event.preventDefault(), page.drop.classList.add("over"));
page.drop.ondragleave = () => page.drop.classList.remove("over");
page.drop.ondrop = (event) => {
  event.preventDefault();
  page.drop.classList.remove("over");
  add(event.dataTransfer.files);
};
page.camera.onclick = () => (camera ? stop() : start());
page.check.onclick = () => (queue = queue.then(check));

/** Make the networks ready. */
async function load() {
  try {
    if (device === "webgpu" && !navigator.gpu) throw new Error("This browser has no WebGPU: leave ?device=webgpu out.");
    const started = performance.now();
    const [ort, { Extractor }] = await Promise.all([
      import(`./node_modules/onnxruntime-web/dist/ort.${device === "webgpu" ? "webgpu" : "wasm"}.min.mjs`).catch(() => {
        throw new Error("onnxruntime-web is missing: run npm install in the page's folder.");
      }),
      import(`${bundle}fever.js`).catch(() => {
        throw new Error(`${bundle} is no bundle: fever-extract export --bundle examples/browser/bundle writes one.`);
      }),
    ]);
    // Threads need a page that no other can reach into: see README.md.
    ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
    const options = { precision: chosen.get("precision") ?? "float16", providers: [device] };
    extractor = await Extractor.load(bundle, ort, options);
    document.body.dataset.loaded = String(performance.now() - started);
    say(`Ready: ${extractor.config.name}, ${extractor.config.embedding_dim} numbers a face, ${device} with ${ort.env.wasm.numThreads} thread(s).`);
  } catch (error) {
    say(error.message, true);
  }
  document.body.dataset.ready = "true";
  page.camera.disabled = page.check.disabled = !extractor;
}

/** Say something in the one line that there is for it. */
function say(text, isError = false) {
  page.status.textContent = text;
  page.status.className = isError ? "error" : "";
}

function add(files) {
  for (const file of [...files])
    queue = queue.then(() => extractor && show(file)).catch((error) => say(`${file.name}: ${error.message}`, true));
}

async function show(file) {
  say(`${file.name} …`);
  const started = performance.now();
  const [record] = await extractor.extractRecords([file], { allFaces: true });
  const seconds = (performance.now() - started) / 1000;
  const article = element("article", "photograph", page.photographs);
  Object.assign(article.dataset, { name: file.name, status: record.status, seconds });
  if (record.status !== "ok" && record.status !== "no_face") {
    element("p", "error", article).textContent = `${file.name}: ${record.error}`;
    return say(`${file.name}: ${record.status}`);
  }
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const figure = element("figure", "", article);
  const canvas = draw(bitmap, record.faces, element("canvas", "", figure));
  element("figcaption", "", figure).textContent =
    `${file.name}: ${bitmap.width}x${bitmap.height}, ${record.error ?? count(record.faces)}, ${seconds.toFixed(2)} s`;
  const list = element("div", "faces", article);
  for (const [index, face] of record.faces.entries()) describe(bitmap, face, index, list);
  article.dataset.faces = JSON.stringify(record.faces.map(({ box, embedding }) => ({ box, embedding: [...embedding] })));
  bitmap.close();
  for (const one of known) nearest(one);
  say(`${file.name}: ${count(record.faces)}.`);
  return canvas;
}

const count = (faces) => (faces.length === 1 ? "1 face" : `${faces.length} faces`);

function describe(bitmap, face, index, list) {
  const [x1, y1, x2, y2] = face.box;
  const row = element("div", "face", list);
  const thumbnail = element("canvas", "", row);
  thumbnail.width = thumbnail.height = 72;
  const side = Math.max(x2 - x1, y2 - y1); // not stretched
  thumbnail.getContext("2d").drawImage(bitmap, (x1 + x2 - side) / 2, (y1 + y2 - side) / 2, side, side, 0, 0, 72, 72);
  const odds = Object.entries(face.expressions).sort((a, b) => b[1] - a[1]).slice(0, 3);
  const bars = element("ol", "bars", row);
  for (const [name, value] of odds) {
    const item = element("li", "", bars);
    element("span", "", item).textContent = name;
    element("span", "bar", element("span", "", item)).style.width = `${100 * value}%`;
    element("span", "", item).textContent = `${(100 * value).toFixed(0)} %`;
  }
  const details = element("details", "", row);
  element("summary", "", details).textContent = `${index + 1}: embedding (score ${face.score.toFixed(3)})`;
  element("code", "", details).textContent = [...face.embedding].map((x) => x.toFixed(4)).join(" ");
  known.push({ embedding: face.embedding, thumbnail, similar: element("p", "similar", row) });
}

/** Show which of the other faces are most alike. */
function nearest(one) {
  const others = known.filter((other) => other !== one).map((other) => ({ other, cosine: cosine(one.embedding, other.embedding) }));
  others.sort((a, b) => b.cosine - a.cosine);
  one.similar.replaceChildren(others.length ? "similar: " : "");
  for (const { other, cosine } of others.slice(0, 3)) {
    const small = element("canvas", "", one.similar);
    small.width = small.height = 36;
    small.title = cosine.toFixed(3);
    small.getContext("2d").drawImage(other.thumbnail, 0, 0, 36, 36);
  }
}

/** The picture with boxes and landmarks; each box with its number, or with an expression. */
function draw(source, faces, canvas, named = false) {
  canvas.width = source.width || source.videoWidth;
  canvas.height = source.height || source.videoHeight;
  const context = canvas.getContext("2d");
  context.drawImage(source, 0, 0);
  const unit = Math.max(canvas.width, canvas.height) / 400;
  context.lineWidth = unit;
  context.font = `${10 * unit}px sans-serif`;
  context.textBaseline = "top";
  context.strokeStyle = "#3f6";
  faces.forEach(({ box: [x1, y1, x2, y2], landmarks, expressions }, index) => {
    context.fillStyle = "#3f6";
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    for (const [x, y] of landmarks) context.fillRect(x - unit / 2, y - unit / 2, unit, unit);
    const [best] = Object.entries(expressions).sort((a, b) => b[1] - a[1]);
    const label = named && best ? best[0] : `${index + 1}`;
    const wide = context.measureText(label).width + 4 * unit;
    const left = Math.max(0, Math.min(x1, canvas.width - wide)); // all of it in the picture
    const top = Math.max(0, y1 - 13 * unit);
    context.fillRect(left, top, wide, 13 * unit);
    context.fillStyle = "black";
    context.fillText(label, left + 2 * unit, top + 2 * unit);
  });
  return canvas;
}

let camera = null;
async function start() {
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch (error) {
    const why = { NotAllowedError: "the camera was refused: allow it beside the address, or drop a photograph", NotFoundError: "there is no camera here: drop a photograph", NotReadableError: "the camera is in use by another program" };
    return say(why[error.name] ?? `the camera can't be used: ${error.message}`, true);
  }
  const video = Object.assign(document.createElement("video"), { srcObject: camera, muted: true, playsInline: true });
  await video.play();
  page.live.hidden = false;
  page.camera.textContent = "stop the camera";
  const [canvas, line] = page.live.children;
  while (camera) {
    const started = performance.now();
    const frame = await createImageBitmap(video);
    const [record] = await extractor.extractRecords([frame], { allFaces: true });
    draw(frame, record.faces, canvas, true);
    frame.close();
    page.live.dataset.faces = record.faces.length;
    line.textContent = `${count(record.faces)}, ${(1000 / (performance.now() - started)).toFixed(1)} frames a second`;
    await new Promise(requestAnimationFrame);
  }
}

function stop() {
  for (const track of camera.getTracks()) track.stop();
  camera = null;
  page.live.hidden = true;
  page.camera.textContent = "use the camera";
}

/** The conformance pictures, decoded and worked on in this browser, beside the package's answers. */
async function check() {
  say("Checking …");
  try {
    const { rows, passed } = await conform(extractor, bundle);
    page.conformance.hidden = false;
    page.conformance.replaceChildren();
    for (const cells of [["picture", "status", "cosine", "pixels", ""], ...rows.map((row) => [row.file, row.status, row.cosine.toFixed(6), row.pixels.toFixed(2), row.problem ?? ""])]) {
      const line = element("tr", "", page.conformance);
      for (const cell of cells) element("td", "", line).textContent = cell;
    }
    page.conformance.dataset.rows = JSON.stringify(rows);
    say(passed ? "This browser gives the package's embeddings." : "This browser does not give the package's embeddings: see the table.", !passed);
  } catch (error) {
    say(`the check can't be made: ${error.message}`, true);
  }
}

function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, value, index) => sum + value * y[index], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

function element(name, className, parent) {
  const made = document.createElement(name);
  if (className) made.className = className;
  parent.append(made);
  return made;
}
