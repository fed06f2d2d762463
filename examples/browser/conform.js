/**
 * What an extractor makes of a bundle's conformance pictures, beside what the package made of them.
 *
 * @param {import("./bundle/fever.js").Extractor} extractor
 * @param {string} bundle the address of its folder
 * @param {(name: string) => Promise<import("./bundle/fever.js").ImageLike>} [open] a picture by its
 *   name; by default it is fetched
 * @returns {Promise<{passed: boolean, rows: {file: string, status: string, cosine: number,
 *   pixels: number, problem: string | null, varies: boolean}[]}>} `passed` leaves out pictures that
 *   decoders may see differently (`varies`)
 */
export async function conform(extractor, bundle, open) {
  const folder = new URL("conformance/", bundle);
  const get = async (name) => {
    const answer = await fetch(new URL(name, folder));
    if (!answer.ok) throw new Error(`${name}: HTTP ${answer.status}`);
    return answer;
  };
  const expected = await (await get("expected.json")).json();
  const rows = [];
  for (const { file, status, faces, decoders_vary: varies } of expected.pictures) {
    const image = open ? await open(file) : await (await get(file)).blob();
    const [record] = await extractor.extractRecords([image], { allFaces: true });
    const row = { file, status: record.status, varies, cosine: 1, pixels: 0, problem: null };
    rows.push(row);
    if (record.status !== status || record.faces.length !== faces.length) {
      row.problem = `${record.status} with ${record.faces.length} face(s), and not ${status} with ${faces.length}`;
      continue;
    }
    record.faces.forEach(({ box, embedding }, index) => {
      row.cosine = Math.min(row.cosine, cosine(embedding, faces[index].embedding));
      row.pixels = Math.max(row.pixels, ...box.map((edge, i) => Math.abs(edge - faces[index].box[i])));
    });
    if (!(row.cosine >= expected.cosine[extractor.precision])) row.problem = `an embedding has a cosine of only ${row.cosine.toFixed(6)}`;
    else if (!(row.pixels <= expected.pixels)) row.problem = `a box is ${row.pixels.toFixed(2)} pixels away`;
  }
  return { rows, passed: rows.every(({ problem, varies }) => !problem || varies) };
}

function cosine(a, b) {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) [ab, aa, bb] = [ab + a[i] * b[i], aa + a[i] ** 2, bb + b[i] ** 2];
  return ab / Math.sqrt(aa * bb);
}
