"use strict";
// One frame an answer: the next is asked for when this one is drawn, so that nothing queues up.
const { expressions } = JSON.parse(document.getElementById("data").textContent);
const token = new URLSearchParams(location.search).get("token");
const SECONDS = 30; // of the course
const GAP = 3; // seconds without a frame that interrupt a line
const REDRAW = 100; // ms between drawings of the courses
const EXPRESSION_COLORS = {
  neutral: "#8a94a6", happiness: "#d99a00", surprise: "#0e93a5", sadness: "#3568d4",
  anger: "#d92d20", disgust: "#4c8c2b", fear: "#7a3fc4", contempt: "#b5651d",
};
const FACE_COLORS = ["#d6336c", "#1c7ed6", "#2b8a3e", "#e8590c", "#7048e8", "#0b7285"];
const color = (name, index) => EXPRESSION_COLORS[name] ?? `hsl(${(index * 67) % 360} 60% 42%)`;
const faceColor = (track) => FACE_COLORS[track % FACE_COLORS.length];
const at = (id) => document.getElementById(id);
const cards = new Map(); // by track
let after = -1;

function element(parent, tag, properties = {}) {
  const made = document.createElement(tag);
  Object.assign(made, properties);
  parent.append(made);
  return made;
}

function makeCard(track) {
  const root = document.createElement("article");
  root.className = "face";
  root.dataset.track = track;
  const later = [...at("faces").children].find((card) => Number(card.dataset.track) > track);
  at("faces").insertBefore(root, later ?? null);
  const title = element(root, "h2");
  element(title, "i").style.background = faceColor(track);
  element(title, "b", { textContent: `face ${track}` });
  const said = element(title, "span");
  const rows = element(root, "div", { className: "rows" });
  const bars = expressions.map((name, index) => {
    element(rows, "label", { textContent: name });
    const bar = element(element(rows, "div"), "b");
    bar.style.background = color(name, index);
    return [bar, element(rows, "output")];
  });
  const course = element(root, "canvas", { className: "course" });
  course.setAttribute("role", "img");
  course.setAttribute("aria-label", `probabilities of face ${track} over the last ${SECONDS} seconds`);
  return { root, said, bars, course, times: [], values: [], joined: [], present: false };
}

function drawCourse({ course, times, values, joined }, now) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [course.clientWidth, course.clientHeight];
  course.width = width * scale;
  course.height = height * scale;
  const pen = course.getContext("2d");
  pen.scale(scale, scale);
  const [left, right, top, bottom] = [30, width - 2, 7, height - 18];
  const x = (time) => right - ((now - time) / SECONDS) * (right - left);
  const y = (value) => bottom - value * (bottom - top);
  pen.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  pen.fillStyle = "#5b6472";
  pen.strokeStyle = "#e4e7ec";
  pen.textBaseline = "middle";
  for (const value of [0, 0.5, 1]) {
    pen.beginPath();
    pen.moveTo(left, y(value));
    pen.lineTo(right, y(value));
    pen.stroke();
    pen.textAlign = "right";
    pen.fillText(value, left - 6, y(value));
  }
  pen.textBaseline = "alphabetic";
  for (const ago of [30, 20, 10, 0]) {
    pen.textAlign = ago === 30 ? "left" : ago ? "center" : "right";
    pen.fillText(ago ? `−${ago} s` : "now", x(now - ago), height - 4);
  }
  pen.lineWidth = 1.5;
  pen.lineJoin = "round";
  expressions.forEach((name, index) => {
    pen.strokeStyle = color(name, index);
    pen.beginPath();
    times.forEach((time, moment) => {
      const on = moment > 0 && joined[moment] && time - times[moment - 1] <= GAP;
      pen[on ? "lineTo" : "moveTo"](x(time), y(values[moment][index]));
    });
    pen.stroke();
  });
}

function note(face, time) {
  if (!cards.has(face.track)) cards.set(face.track, makeCard(face.track));
  const card = cards.get(face.track);
  card.said.textContent = face.expression ? `${face.expression} ${face.probability.toFixed(2)}` : "";
  const values = expressions.map((name) => face.expressions[name] ?? 0);
  card.bars.forEach(([bar, output], index) => {
    bar.style.width = `${100 * values[index]}%`;
    output.textContent = values[index].toFixed(2);
  });
  card.times.push(time);
  card.values.push(values);
  card.joined.push(card.present); // in the frame before, too
}

function forget(time) {
  for (const [track, card] of cards) {
    const old = card.times.findIndex((then) => time - then <= SECONDS);
    if (old < 0) {
      card.root.remove();
      cards.delete(track);
    } else {
      card.times.splice(0, old);
      card.values.splice(0, old);
      card.joined.splice(0, old);
    }
  }
}

function drawPicture(image, result) {
  const canvas = at("picture");
  canvas.style.aspectRatio = `${image.width} / ${image.height}`;
  // As large as it is shown, so that lines and letters are sharp.
  const unit = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * unit);
  const height = Math.round((width * image.height) / image.width);
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0, width, height);
  const scale = width / result.width;
  pen.lineWidth = 2.5 * unit;
  pen.font = `600 ${14 * unit}px system-ui, 'DejaVu Sans', sans-serif`;
  pen.textBaseline = "middle";
  for (const face of result.faces) {
    const [x1, y1, x2, y2] = face.box.map((value) => value * scale);
    pen.strokeStyle = pen.fillStyle = faceColor(face.track);
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
    const text = `${face.track} ${face.expression ?? ""} ${face.probability?.toFixed(2) ?? ""}`.trim();
    const [long, high] = [pen.measureText(text).width + 10 * unit, 20 * unit];
    const left = Math.max(0, Math.min(x1 - pen.lineWidth / 2, width - long));
    const top = y1 > high ? y1 - high : Math.max(0, y1);
    pen.fillRect(left, top, long, high);
    pen.fillStyle = "#fff";
    pen.fillText(text, left + 5 * unit, top + high / 2 + unit);
  }
}

let drawn = 0;
function show(result, image, age) {
  drawPicture(image, result);
  for (const face of result.faces) note(face, result.time);
  const present = new Set(result.faces.map((face) => face.track));
  for (const [track, card] of cards) {
    card.present = present.has(track);
    card.root.classList.toggle("gone", !card.present);
  }
  forget(result.time);
  at("rate").textContent = result.rate.toFixed(1);
  at("latency").textContent = `${Math.round(1000 * age)} ms`;
  at("dropped").textContent = result.dropped;
  at("count").textContent = result.faces.length;
  at("state").textContent = result.status === "ok" ? "live" : (result.error ?? result.status);
  if (performance.now() - drawn >= REDRAW) {
    drawn = performance.now();
    for (const card of cards.values()) drawCourse(card, result.time);
  }
  document.body.dataset.frames = Number(document.body.dataset.frames ?? 0) + 1;
}

async function step() {
  const query = new URLSearchParams({ token, ...(after < 0 ? {} : { after }) });
  const response = await fetch(`/frame?${query}`);
  if (response.status === 204) return true;
  if (response.status === 410) {
    at("state").textContent = (await response.json()).ended;
    return false;
  }
  if (!response.ok) throw new Error(await response.text());
  const bytes = new Uint8Array(await response.arrayBuffer());
  const length = new DataView(bytes.buffer).getUint32(0);
  const result = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  after = result.frame;
  if (result.width) {
    const image = await createImageBitmap(new Blob([bytes.subarray(4 + length)], { type: "image/jpeg" }));
    show(result, image, Number(response.headers.get("X-Age")));
    image.close();
  }
  return true;
}

async function run() {
  after = -1;
  at("again").hidden = true;
  at("faces").replaceChildren();
  cards.clear();
  try {
    while (await step());
  } catch (error) {
    at("state").textContent = "the command has ended, or can't be reached";
  }
  at("again").hidden = false;
}

at("again").addEventListener("click", run);
run();
