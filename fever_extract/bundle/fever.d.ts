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
export type Pixels = {
    width: number;
    height: number;
    data: Uint8Array | Uint8ClampedArray;
};
export type ImageLike = Blob | ArrayBuffer | Uint8Array | CanvasImageSource | Pixels;
export type Box = [number, number, number, number];
export type Face = {
    box: Box;
    score: number;
    landmarks: number[][];
    embedding: Float32Array;
    expressions: Record<string, number>;
    blendshapes: Record<string, number>;
    valence: number | null;
    arousal: number | null;
    detected: boolean;
};
export type FaceRecord = {
    status: string;
    error: string | null;
    faces: Face[];
};
export type Options = {
    select?: "largest" | "most_confident" | "center";
    minFaceSize?: number;
    minConfidence?: number;
    aligned?: boolean;
    fallback?: "whole" | null;
    normalize?: boolean;
    allFaces?: boolean;
};
export type LoadOptions = {
    precision?: string;
    providers?: any[];
    read?: (name: string) => Promise<Uint8Array>;
};
export type Candidate = {
    box: number[];
    score: number;
    offsets: number[];
    points: number[][];
};
/** Why an image has no embedding, or a bundle can't be used; `status` is "bundle" for the latter. */
export declare class FeverError extends Error {
    status: string;
    /** @param {string} status @param {string} message */
    constructor(status: string, message: string);
}
export declare class Extractor {
    #private;
    ort: any;
    config: any;
    precision: string;
    numbers: any;
    pnet: any;
    rnet: any;
    onet: any;
    embedder: any;
    /**
     * Use `load`.
     * @param {any} ort @param {any} manifest @param {any} config @param {string} precision
     * @param {any[]} nets
     */
    constructor(ort: any, manifest: any, config: any, precision: string, nets: any[]);
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
    static load(url: string | URL, ort: any, { precision, providers, read }?: LoadOptions): Promise<Extractor>;
    /**
     * One embedding an image; row i is input i. An input without an embedding is a row of NaN.
     * @param {ImageLike[]} images @param {Options} [options] @returns {Promise<Float32Array[]>}
     */
    extract(images: ImageLike[], options?: Options): Promise<Float32Array[]>;
    /**
     * What became of each image, in order.
     * @param {ImageLike[]} images @param {Options} [options] @returns {Promise<FaceRecord[]>}
     */
    extractRecords(images: ImageLike[], options?: Options): Promise<FaceRecord[]>;
}
export type Picture = {
    width: number;
    height: number;
    data: Uint8Array;
};
