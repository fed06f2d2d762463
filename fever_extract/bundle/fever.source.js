// @ts-check
/**
 * Photographs to facial-expression embeddings in browsers and Node, on onnxruntime-web.
 *
 *     const extractor = await Extractor.load("bundle/", ort);
 *     const [record] = await extractor.extractRecords([file], { allFaces: true });
 *
 * The steps, and their order, are those of fever_onnx.py; the numbers are in bundle.json.
 * fever.js and fever.d.ts are made from this file: npm run build in examples/browser.
 *
 * @typedef {{width: number, height: number, data: Uint8Array | Uint8ClampedArray}} Pixels
 *   RGBA or RGB, row by row
 * @typedef {Blob | ArrayBuffer | Uint8Array | CanvasImageSource | Pixels} ImageLike
 *   a file, its bytes, something that can be drawn, or pixels
 * @typedef {[number, number, number, number]} Box left, top, right, bottom
 * @typedef {{box: Box, score: number, landmarks: number[][], embedding: Float32Array,
 *   expressions: Record<string, number>, blendshapes: Record<string, number>,
 *   valence: number | null, arousal: number | null, detected: boolean}} Face
 * @typedef {{status: string, error: string | null, faces: Face[]}} FaceRecord
 * @typedef {{select?: "largest" | "most_confident" | "center", minFaceSize?: number,
 *   minConfidence?: number, aligned?: boolean, fallback?: "whole" | null, normalize?: boolean,
 *   allFaces?: boolean}} Options
 * @typedef {{precision?: string, providers?: any[],
 *   read?: (name: string) => Promise<Uint8Array>}} LoadOptions
 * @typedef {{box: number[], score: number, offsets: number[], points: number[][]}} Candidate
 */

const VERSION = 1;
const MOST_PIXELS = 89478485; // Pillow's limit for decompression bombs
/** @type {Required<Options>} */
const DEFAULTS = {
  select: "largest", minFaceSize: 0, minConfidence: 0.9, aligned: false, fallback: null,
  normalize: false, allFaces: false,
};
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65,
  0, 253, 15, 253, 98, 11];

/** Why an image has no embedding, or a bundle can't be used; `status` is "bundle" for the latter. */
export class FeverError extends Error {
  /** @param {string} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Extractor {
  /**
   * Use `load`.
   * @param {any} ort @param {any} manifest @param {any} config @param {string} precision
   * @param {any[]} nets
   */
  constructor(ort, manifest, config, precision, nets) {
    this.ort = ort;
    this.config = config;
    this.precision = precision;
    this.numbers = manifest.detector;
    this.pnet = nets[0];
    this.rnet = nets[1];
    this.onet = nets[2];
    this.embedder = nets[3];
  }

  /**
   * Fetch a bundle's files, check them, and make the networks ready.
   *
   * @param {string | URL} url of the bundle's folder
   * @param {any} ort the module onnxruntime-web (or onnxruntime-node)
   * @param {LoadOptions} [options] `precision` of the weights (float16), ONNX Runtime's `providers`
   *   (["wasm"]; "webgpu" is for the embedding network only), and `read`, in place of fetching, as
   *   in Node
   * @returns {Promise<Extractor>}
   */
  static async load(url, ort, { precision = "float16", providers = ["wasm"], read } = {}) {
    const fail = (/** @type {string} */ text) => new FeverError("bundle", text);
    if (typeof WebAssembly !== "object" || !WebAssembly.validate(new Uint8Array(SIMD)))
      throw fail("This browser has no WebAssembly SIMD: use Chrome 91, Firefox 89, Safari 16.4 or later.");
    const base = String(url).replace(/\/?$/, "/");
    const get = read ?? (async (/** @type {string} */ name) => {
      const answer = await fetch(base + name);
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      return new Uint8Array(await answer.arrayBuffer());
    });
    const open = async (/** @type {string} */ name) => {
      try {
        return await get(name);
      } catch (error) {
        throw fail(`${base}${name} can't be read (${/** @type {Error} */ (error).message}): export the bundle again.`);
      }
    };
    let manifest;
    try {
      manifest = JSON.parse(new TextDecoder().decode(await open("bundle.json")));
    } catch (error) {
      throw error instanceof FeverError ? error : fail(`${base}bundle.json is damaged: export the bundle again.`);
    }
    if (manifest.bundle_version !== VERSION)
      throw fail(`${base} is a bundle of version ${manifest.bundle_version}, and this program reads version ${VERSION}: use the fever.js in that folder.`);
    const version = ort.env?.versions?.web ?? ort.env?.versions?.common ?? "0";
    if (older(version, manifest.onnxruntime))
      throw fail(`ONNX Runtime ${version} is too old, ${manifest.onnxruntime} is needed: npm install onnxruntime-web@latest`);
    const embedder = manifest.embedders[precision];
    if (!embedder)
      throw fail(`This bundle has no weights in ${precision}, but in ${Object.keys(manifest.embedders).join(", ")}.`);
    const names = ["config.json", "pnet.onnx", "rnet.onnx", "onet.onnx", embedder];
    const files = await Promise.all(names.map(async (name) => {
      const data = await open(name);
      const { sha256, bytes } = manifest.files[name] ?? {};
      // Pages that come over plain HTTP, but from this machine, have no crypto.subtle.
      const sum = globalThis.crypto?.subtle ? await digest(data) : sha256;
      if (data.length !== bytes || sum !== sha256)
        throw fail(`${base}${name} is not the file that the bundle was made with (its SHA-256 differs): copy or export the bundle again.`);
      return data;
    }));
    // The detector's networks are small and see many sizes, which no GPU is quick at.
    const others = providers.filter((provider) => (provider.name ?? provider) !== "webgpu");
    const nets = [];
    for (const [index, file] of files.slice(1).entries()) { // by turns: the WebAssembly starts only once
      const executionProviders = index === 3 ? providers : others.length ? others : ["wasm"];
      nets.push(await ort.InferenceSession.create(file, { executionProviders, logSeverityLevel: 3 }));
    }
    return new Extractor(ort, manifest, JSON.parse(new TextDecoder().decode(files[0])), precision, nets);
  }

  /**
   * One embedding an image; row i is input i. An input without an embedding is a row of NaN.
   * @param {ImageLike[]} images @param {Options} [options] @returns {Promise<Float32Array[]>}
   */
  async extract(images, options) {
    const records = await this.extractRecords(images, { ...options, allFaces: false });
    const failed = records.filter(({ faces }) => !faces.length).length;
    if (failed) console.warn(`${failed} of ${records.length} images have no embedding and are rows of NaN; extractRecords gives the reasons`);
    const none = () => new Float32Array(this.config.embedding_dim).fill(NaN);
    return records.map(({ faces }) => faces[0]?.embedding ?? none());
  }

  /**
   * What became of each image, in order.
   * @param {ImageLike[]} images @param {Options} [options] @returns {Promise<FaceRecord[]>}
   */
  async extractRecords(images, options = {}) {
    const unknown = Object.keys(options).filter((name) => !(name in DEFAULTS));
    if (unknown.length) throw new TypeError(`no option ${unknown}; there are ${Object.keys(DEFAULTS).join(", ")}`);
    const chosen = { ...DEFAULTS, ...options };
    const records = [];
    for (const image of images) {
      try {
        records.push({ status: "ok", error: null, faces: await this.#faces(await decode(image), chosen) });
      } catch (error) {
        if (!(error instanceof FeverError)) throw error;
        records.push({ status: error.status, error: error.message, faces: [] });
      }
    }
    return records;
  }

  /** @param {Picture} image @param {Required<Options>} options @returns {Promise<Face[]>} */
  async #faces(image, options) {
    const n = this.numbers;
    const { width, height } = image;
    const shorter = Math.min(width, height);
    const smallest = options.minFaceSize ||
      Math.max(n.least, Math.min(n.usual, shorter / n.small_part), shorter / n.large_part);
    if (options.aligned) return this.#whole(image, options);
    if (shorter < smallest) {
      if (options.fallback) return this.#whole(image, options);
      throw new FeverError("too_small", `the picture is ${width}x${height} pixels; faces under ${smallest.toFixed(0)} pixels are not looked for (minFaceSize)`);
    }
    const found = await this.#detect(new Pyramid(image, n), smallest, options.minConfidence);
    if (!found.length) {
      if (options.fallback) return this.#whole(image, options);
      throw new FeverError("no_face", `no face of ${smallest.toFixed(0)} pixels or more found with a confidence of ${options.minConfidence} or more`);
    }
    const worse = {
      largest: (/** @type {Candidate} */ { box: b }) => -(b[2] - b[0]) * (b[3] - b[1]),
      most_confident: (/** @type {Candidate} */ { score }) => -score,
      center: (/** @type {Candidate} */ { box: b }) => Math.hypot(b[0] + b[2] - width, b[1] + b[3] - height),
    }[options.select];
    if (!worse) throw new TypeError(`select must be largest, most_confident or center, not ${options.select}`);
    found.sort((a, b) => worse(a) - worse(b));
    const kept = options.allFaces ? found : found.slice(0, 1);
    const { size, template } = this.config.preprocessing;
    return this.#embed(kept, kept.map(({ points }) => cut(image, similarity(points, template, size), size, n.supersample)), options);
  }

  /** The whole picture as a face. @param {Picture} image @param {Required<Options>} options */
  #whole(image, options) {
    const { width, height } = image;
    const { size } = this.config.preprocessing;
    if (Math.min(width, height) < this.numbers.cell)
      throw new FeverError("too_small", `the picture is ${width}x${height} pixels; a face needs ${this.numbers.cell}`);
    const face = { box: [0, 0, width, height], score: NaN, offsets: [], points: Array(5).fill([NaN, NaN]) };
    const crop = width === size && height === size ? planes(image.data, size)
      : cut(image, [width / size, 0, 0, 0, height / size, 0], size, this.numbers.supersample);
    return this.#embed([face], [crop], options);
  }

  /** @param {Candidate[]} found @param {Float32Array[]} crops @param {Required<Options>} options */
  async #embed(found, crops, options) {
    const { size } = this.config.preprocessing;
    /** @type {Face[]} */
    const faces = [];
    for (const [index, crop] of crops.entries()) {
      const input = new this.ort.Tensor("float32", crop, [1, 3, size, size]);
      const output = await this.embedder.run({ crops: input });
      /** @type {(name: string) => number[]} */
      const head = (name) => Array.from(output[name]?.data ?? []);
      const odds = softmax(head("expression"));
      const [valence, arousal] = head("valence_arousal");
      const embedding = Float32Array.from(output.embedding.data);
      const length = options.normalize ? Math.max(Math.hypot(...embedding), 1e-12) : 1;
      const { box, score, points } = found[index];
      faces.push({
        box: /** @type {Box} */ (box), score, landmarks: points, embedding: embedding.map((x) => x / length),
        expressions: named(this.config.expressions, odds),
        blendshapes: named(this.config.blendshapes, head("blendshapes")),
        valence: valence ?? null, arousal: arousal ?? null, detected: !Number.isNaN(score),
      });
    }
    return faces;
  }

  /** MTCNN. @param {Pyramid} pyramid @param {number} smallest @param {number} least */
  async #detect(pyramid, smallest, least) {
    const n = this.numbers;
    let faces = suppress(await this.#propose(pyramid, n.cell / smallest), n.overlap);
    faces = await this.#look(this.rnet, pyramid, faces.map(move).map(square), n.r_size);
    faces = suppress(faces.filter(({ score }) => score > n.threshold), n.overlap);
    // Of candidates that overlap, the best first; the others only where that is no face, or another.
    const squares = faces.map(move).map(square);
    const first = suppress(squares, n.same);
    const seen = await this.#look(this.onet, pyramid, first, n.o_size);
    const sure = seen.filter(({ score }) => score >= Math.max(n.sure, least)).map(move).map(square);
    const waiting = squares.filter((face) => !first.includes(face) && sure.every((other) => apart(face.box, other.box, n.same)));
    faces = [...seen, ...await this.#look(this.onet, pyramid, waiting, n.o_size)];
    faces = faces.filter(({ score }) => score > Math.min(n.threshold, least)).map(move);
    faces = suppress(faces, n.overlap, true).filter(({ box, score }) => score >= least &&
      Math.max(box[2] - box[0], 0) * Math.max(box[3] - box[1], 0) >= smallest ** 2);
    // Look again where the faces were found, until their landmarks stay.
    let moving = faces;
    for (let look = 0; look < n.settle && moving.length; look++) {
      const next = [];
      for (const face of moving) {
        // From grey beyond the border, O-Net tells where the rest of a cut face is.
        const [seen] = await this.#look(this.onet, pyramid, [square(face)], n.o_size, true);
        if (!seen) continue;
        const step = Math.max(...seen.points.map(([x, y], i) => Math.hypot(x - face.points[i][0], y - face.points[i][1])));
        Object.assign(face, { box: move(seen).box, points: seen.points });
        if (step > n.still * (seen.box[2] - seen.box[0])) next.push(face);
      }
      moving = next;
    }
    return faces;
  }

  /** P-Net over all scales. @param {Pyramid} pyramid @param {number} scale */
  async #propose(pyramid, scale) {
    const { cell, stride, threshold, level_overlap } = this.numbers;
    /** @type {Candidate[]} */
    const all = [];
    for (const level of pyramid.levels(scale)) {
      const { width, height } = level;
      const input = new this.ort.Tensor("uint8", level.data, [height, width, 3]);
      const { scores, offsets } = await this.pnet.run({ image: input });
      const columns = scores.dims[1];
      const [stepX, stepY] = [pyramid.width / width, pyramid.height / height];
      const found = [];
      for (let i = 0; i < scores.data.length; i++) {
        if (!(scores.data[i] > threshold)) continue;
        const [x, y] = [stride * (i % columns), stride * Math.floor(i / columns)];
        const box = [(x + 1) * stepX, (y + 1) * stepY, (x + cell) * stepX, (y + cell) * stepY];
        found.push({ box, score: scores.data[i], offsets: [...offsets.data.subarray(4 * i, 4 * i + 4)], points: [] });
      }
      all.push(...suppress(found, level_overlap));
    }
    return all;
  }

  /**
   * R-Net or O-Net on squares; those without a pixel inside are left out.
   * @param {any} net @param {Pyramid} pyramid @param {Candidate[]} faces @param {number} size
   * @param {boolean} [padded]
   * @returns {Promise<Candidate[]>}
   */
  async #look(net, pyramid, faces, size, padded = false) {
    const crops = faces.map(({ box }) => pyramid.crop(box, size, padded));
    const kept = faces.filter((_, i) => crops[i]);
    if (!kept.length) return [];
    const data = new Float32Array(kept.length * size * size * 3);
    crops.filter((crop) => crop).forEach((crop, i) => data.set(/** @type {Float32Array} */ (crop), i * size * size * 3));
    const output = await net.run({ crops: new this.ort.Tensor("float32", data, [kept.length, size, size, 3]) });
    return kept.map(({ box }, i) => {
      const points = [...(output.landmarks?.data.subarray(10 * i, 10 * i + 10) ?? [])];
      const sides = [box[2] - box[0] + 1, box[3] - box[1] + 1];
      return {
        box, score: output.scores.data[i], offsets: [...output.offsets.data.subarray(4 * i, 4 * i + 4)],
        points: points.length ? [0, 2, 4, 6, 8].map((at) => [0, 1].map((axis) => box[axis] - 1 + points[at + axis] * sides[axis])) : [],
      };
    });
  }
}

/** RGB pixels. @typedef {{width: number, height: number, data: Uint8Array}} Picture */

/** An image, halved again and again, from which levels and crops are resampled. */
class Pyramid {
  /** @param {Picture} image @param {any} numbers */
  constructor(image, numbers) {
    this.width = image.width;
    this.height = image.height;
    this.n = numbers;
    this.octaves = [image];
  }

  /** @param {number} scale */
  *levels(scale) {
    const { cell, scale_step } = this.n;
    for (; Math.min(this.width, this.height) * scale >= cell; scale *= scale_step) {
      const [width, height] = [this.width, this.height].map((side) => 2 * Math.max(cell / 2, roundEven((side * scale) / 2)));
      yield resize(this.octave(Math.max(0, Math.floor(-Math.log2(scale) + 1e-6))), width, height);
    }
  }

  /** @param {number} index @returns {Picture} */
  octave(index) {
    while (index >= this.octaves.length) {
      const last = this.octaves[this.octaves.length - 1];
      if (Math.min(last.width, last.height) < 2 * this.n.cell) return last;
      this.octaves.push(resize(last, Math.ceil(last.width / 2), Math.ceil(last.height / 2)));
    }
    return this.octaves[index];
  }

  /**
   * What of a box is inside, resampled; or all of it, grey beyond the border.
   * @param {number[]} box @param {number} size @param {boolean} padded
   */
  crop(box, size, padded) {
    const limits = [this.width, this.height, this.width, this.height];
    const corners = box.map((edge, i) => (i < 2 ? edge - 1 : edge));
    const inside = corners.map((edge, i) => Math.min(Math.max(edge, 0), limits[i]));
    if (!(inside[2] > inside[0] && inside[3] > inside[1])) return null;
    const edges = padded ? corners : inside;
    const [wide, tall] = [edges[2] - edges[0], edges[3] - edges[1]];
    const source = this.octave(Math.max(0, Math.floor(Math.log2(Math.max(wide, tall) / size))));
    const [x, y] = [source.width / this.width, source.height / this.height];
    const [stepX, stepY] = [(wide * x) / size, (tall * y) / size];
    const crop = sample(source, [stepX, 0, edges[0] * x, 0, stepY, edges[1] * y], size, size);
    if (!padded) return crop;
    const { grey } = this.n;
    const cover = (/** @type {number} */ index, /** @type {number} */ axis) => {
      const step = (edges[axis + 2] - edges[axis]) / size;
      const place = edges[axis] + (index + 0.5) * step;
      return Math.min(Math.max(Math.min(place, limits[axis] - place) / step + 0.5, 0), 1);
    };
    return crop.map((value, i) => {
      const pixel = Math.floor(i / 3);
      return grey + cover(pixel % size, 0) * cover(Math.floor(pixel / size), 1) * (value - grey);
    });
  }
}

/**
 * Bilinear samples at the centres of a grid, whose map (a, b, c, d, e, f) leads to pixels; beyond
 * the outermost pixels the nearest counts.
 * @param {Picture} image @param {number[]} map @param {number} columns @param {number} rows
 */
function sample({ width, height, data }, [a, b, c, d, e, f], columns, rows) {
  const out = new Float32Array(columns * rows * 3);
  for (let row = 0, at = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const [u, v] = [column + 0.5, row + 0.5];
      const x = Math.min(Math.max(a * u + b * v + c - 0.5, 0), width - 1);
      const y = Math.min(Math.max(d * u + e * v + f - 0.5, 0), height - 1);
      const [left, top] = [Math.floor(x), Math.floor(y)];
      const right = 3 * Math.min(left + 1, width - 1);
      const [upper, lower] = [3 * width * top, 3 * width * Math.min(top + 1, height - 1)];
      for (let channel = 0; channel < 3; channel++, at++) {
        const [p, q] = [3 * left + channel, right + channel];
        const above = data[upper + p] + (x - left) * (data[upper + q] - data[upper + p]);
        const below = data[lower + p] + (x - left) * (data[lower + q] - data[lower + p]);
        out[at] = above + (y - top) * (below - above);
      }
    }
  return out;
}

/** Bilinear, antialiased, in bytes, as Pillow does it. @param {Picture} image @param {number} width @param {number} height */
function resize(image, width, height) {
  let { data } = image;
  if (width !== image.width) data = along(data, image.height, image.width, width, 3, 3 * image.width, 3 * width);
  if (height !== image.height) data = along(data, width, image.height, height, 3 * width, 3, 3);
  return { width, height, data };
}

/**
 * One axis of it: `lines` of `from` pixels, which lie `step` apart, to `to` pixels each.
 * @param {Uint8Array} data @param {number} lines @param {number} from @param {number} to
 * @param {number} step @param {number} lineIn @param {number} lineOut
 */
function along(data, lines, from, to, step, lineIn, lineOut) {
  const out = new Uint8Array(lines * to * 3);
  const scale = from / to;
  const reach = Math.max(scale, 1);
  const weights = new Float64Array(Math.ceil(reach) * 2 + 1);
  for (let i = 0; i < to; i++) {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const count = Math.min(from, Math.trunc(centre + reach + 0.5)) - first;
    let total = 0;
    for (let k = 0; k < count; k++) total += weights[k] = Math.max(0, 1 - Math.abs(first + k - centre + 0.5) / reach);
    for (let k = 0; k < count; k++) weights[k] = Math.round((weights[k] / total) * 2 ** 22) / 2 ** 22; // Pillow's
    for (let line = 0; line < lines; line++) {
      const [source, target] = [line * lineIn + first * step, line * lineOut + i * step];
      let [red, green, blue] = [0.5, 0.5, 0.5];
      for (let k = 0, at = source; k < count; k++, at += step) {
        red += weights[k] * data[at];
        green += weights[k] * data[at + 1];
        blue += weights[k] * data[at + 2];
      }
      out[target] = red;
      out[target + 1] = green;
      out[target + 2] = blue;
    }
  }
  return out;
}

/**
 * The similarity (Umeyama 1991) from crop pixels to image pixels, by five landmarks.
 * @param {number[][]} points @param {number[][]} template @param {number} size
 */
function similarity(points, template, size) {
  const crop = template.map((point) => point.map((x) => x * size));
  const mean = (/** @type {number[][]} */ all, /** @type {number} */ axis) => all.reduce((sum, p) => sum + p[axis], 0) / all.length;
  const [px, py, cx, cy] = [mean(points, 0), mean(points, 1), mean(crop, 0), mean(crop, 1)];
  let [spread, re, im] = [0, 0, 0];
  points.forEach(([x, y], i) => {
    const [dx, dy, ex, ey] = [x - px, y - py, crop[i][0] - cx, crop[i][1] - cy];
    spread += dx * dx + dy * dy;
    re += dx * ex + dy * ey;
    im += dx * ey - dy * ex;
  });
  [re, im] = [re, im].map((part) => part / Math.max(spread, 1e-12));
  const norm = Math.max(re * re + im * im, 1e-18);
  const [a, b] = [re / norm, -im / norm];
  return [a, -b, px - a * cx + b * cy, b, a, py - b * cx - a * cy];
}

/** A crop (3, size, size), reduced in two steps. @param {Picture} image @param {number[]} map @param {number} size @param {number} finer */
function cut(image, map, size, finer) {
  let [a, b, c, d, e, f] = map;
  const margin = 2 * Math.sqrt(Math.abs(a * e - b * d)) + 2;
  const span = (/** @type {number[]} */ [p, q, r], /** @type {number} */ limit) => {
    const ends = [r, r + p * size, r + q * size, r + (p + q) * size];
    const start = Math.min(Math.max(0, Math.floor(Math.min(...ends) - margin)), limit - 1);
    const end = Math.max(start + 1, Math.min(limit, Math.ceil(Math.max(...ends) + margin)));
    const side = Math.ceil((end - start) / Math.max(1, Math.floor(Math.max(Math.abs(p), Math.abs(q)))));
    return [start, end - start, side];
  };
  const [left, wide, columns] = span([a, b, c], image.width);
  const [top, tall, rows] = span([d, e, f], image.height);
  const data = new Uint8Array(wide * tall * 3);
  for (let row = 0; row < tall; row++) {
    const at = 3 * ((top + row) * image.width + left);
    data.set(image.data.subarray(at, at + 3 * wide), 3 * row * wide);
  }
  const near = resize({ width: wide, height: tall, data }, columns, rows);
  [a, b, c] = [a / finer, b / finer, c - left].map((x) => (x * columns) / wide);
  [d, e, f] = [d / finer, e / finer, f - top].map((x) => (x * rows) / tall);
  const fine = sample(near, [a, b, c, d, e, f], size * finer, size * finer);
  const mean = new Float32Array(size * size * 3);
  for (let row = 0, at = 0; row < size * finer; row++)
    for (let column = 0; column < size * finer; column++)
      for (let channel = 0; channel < 3; channel++, at++)
        mean[3 * (Math.floor(row / finer) * size + Math.floor(column / finer)) + channel] += fine[at] / finer ** 2;
  return planes(mean, size);
}

/** Channels first. @param {ArrayLike<number>} pixels @param {number} size */
function planes(pixels, size) {
  const area = size * size;
  return Float32Array.from({ length: 3 * area }, (_, i) => pixels[3 * (i % area) + Math.floor(i / area)]);
}

/**
 * Non-maximum suppression, best first: by intersection over union, or over the smaller area.
 * @param {Candidate[]} faces @param {number} overlap @param {boolean} [smaller] @returns {Candidate[]}
 */
function suppress(faces, overlap, smaller = false) {
  /** @type {Candidate[]} */
  const kept = [];
  for (const face of [...faces].sort((a, b) => b.score - a.score))
    if (kept.every(({ box }) => apart(box, face.box, overlap, smaller))) kept.push(face);
  return kept;
}

/**
 * Whether boxes overlap by no more than that.
 * @param {number[]} box @param {number[]} other @param {number} overlap @param {boolean} [smaller]
 */
function apart(box, other, overlap, smaller = false) {
  const last = smaller ? 1 : 0;
  const area = (/** @type {number[]} */ [x1, y1, x2, y2]) => (x2 - x1 + last) * (y2 - y1 + last);
  const wide = Math.min(box[2], other[2]) - Math.max(box[0], other[0]) + last;
  const tall = Math.min(box[3], other[3]) - Math.max(box[1], other[1]) + last;
  const shared = Math.max(wide, 0) * Math.max(tall, 0);
  return shared <= overlap * (smaller ? Math.min(area(other), area(box)) : area(other) + area(box) - shared);
}

/** Corners moved by a network's answer, in sides of the box. @param {Candidate} face */
function move(face) {
  const { box, offsets } = face;
  const sides = [box[2] - box[0] + 1, box[3] - box[1] + 1];
  return { ...face, box: box.map((edge, i) => edge + offsets[i] * sides[i % 2]) };
}

/** The centre, and the longer side for both. @param {Candidate} face */
function square(face) {
  const [x1, y1, x2, y2] = face.box;
  const [x, y, half] = [(x1 + x2) / 2, (y1 + y2) / 2, Math.max(x2 - x1, y2 - y1) / 2];
  return { ...face, box: [x - half, y - half, x + half, y + half] };
}

/** @param {ImageLike} image @returns {Promise<Picture>} */
async function decode(image) {
  const given = /** @type {any} */ (image);
  if (given instanceof ArrayBuffer || given instanceof Uint8Array) return decode(new Blob([/** @type {BlobPart} */ (given)]));
  if (typeof Blob === "function" && given instanceof Blob) return decodeFile(given);
  if (given?.data?.length && given.data.length % (given.width * given.height) === 0) return toRgb(given);
  const width = given?.naturalWidth || given?.videoWidth || given?.displayWidth || given?.width;
  const height = given?.naturalHeight || given?.videoHeight || given?.displayHeight || given?.height;
  if (!(width > 0 && height > 0)) throw new TypeError("expected a file, its bytes, an image, a video, a canvas, or {width, height, data}");
  limit(width, height);
  const canvas = new OffscreenCanvas(width, height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(given, 0, 0, width, height);
  return toRgb(context.getImageData(0, 0, width, height));
}

/** @param {Blob} file @returns {Promise<Picture>} */
async function decodeFile(file) {
  if (typeof createImageBitmap !== "function") throw new TypeError("there is no decoder here: pass {width, height, data}");
  const bytes = new Uint8Array(await file.arrayBuffer());
  inspect(bytes);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    const brand = String.fromCharCode(...bytes.subarray(4, 12));
    throw new FeverError("decode_error", /^ftyp(hei|hev|mif1|msf1)/.test(brand)
      ? "could not be decoded: this browser has no decoder for HEIC (Safari has); convert it to JPEG"
      : "could not be decoded: not an image in a format that this browser knows, or damaged");
  }
  try {
    return await decode(bitmap);
  } finally {
    bitmap.close();
  }
}

/** Refuse what is too large, before it is decoded, and a JPEG without its end. @param {Uint8Array} bytes */
function inspect(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length > 24 && view.getUint32(0) === 0x89504e47) limit(view.getUint32(16), view.getUint32(20));
  if (bytes.length < 4 || view.getUint16(0) !== 0xffd8) return;
  let at = 2;
  for (let marker = 0; marker !== 0xda && at + 9 < bytes.length; at += 2 + view.getUint16(at + 2)) {
    marker = bytes[at + 1];
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) limit(view.getUint16(at + 7), view.getUint16(at + 5));
  }
  while ((at = bytes.indexOf(0xff, at)) >= 0) if (bytes[++at] === 0xd9) return;
  throw new FeverError("decode_error", "could not be decoded: image file is truncated");
}

/** @param {number} width @param {number} height */
function limit(width, height) {
  if (width * height > MOST_PIXELS)
    throw new FeverError("decode_error", `${width}x${height} pixels are over the limit of ${MOST_PIXELS}; make it smaller`);
}

/** On white where it is transparent. @param {Pixels} pixels @returns {Picture} */
function toRgb({ width, height, data }) {
  const channels = data.length / (width * height);
  if (channels !== 3 && channels !== 4) throw new TypeError(`expected 3 or 4 numbers for each of ${width}x${height} pixels, not ${channels}`);
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += channels)
    for (let channel = 0; channel < 3; channel++, to++) {
      const alpha = channels === 4 ? data[from + 3] : 255;
      rgb[to] = alpha === 255 ? data[from + channel] : Math.round((data[from + channel] * alpha + 255 * (255 - alpha)) / 255);
    }
  return { width, height, data: rgb };
}

/** Half to even, as Python rounds. @param {number} x */
const roundEven = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** @param {string[]} names @param {number[]} values */
const named = (names, values) => Object.fromEntries(values.map((value, i) => [names[i], value]));

/** @param {number[]} logits */
function softmax(logits) {
  const odds = logits.map((x) => Math.exp(x - Math.max(...logits)));
  const sum = odds.reduce((a, b) => a + b, 0);
  return odds.map((x) => x / sum);
}

/** @param {string} version @param {string} other */
function older(version, other) {
  const [a, b] = [version, other].map((text) => text.split(".").map(Number));
  return a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]);
}

/** SHA-256 in hexadecimal. @param {Uint8Array} data */
async function digest(data) {
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", /** @type {BufferSource} */ (data)));
  return [...sum].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
