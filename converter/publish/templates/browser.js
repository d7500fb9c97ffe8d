// The page of a package: an image in, classes and their map out.  What it is of stands in FACTS.

const FACTS = JSON.parse(document.getElementById("facts").textContent);
const MOST_PIXELS = 1 << 27; // of an image
const LONGEST = 768; // pixels of the picture's long edge
const TOP = 5; // classes that are listed

const $ = (id) => document.getElementById(id);
const say = (text, failed = false) => {
  $("status").textContent = text;
  $("status").classList.toggle("bad", failed);
};

function fromBase64(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

// A file whose bytes are those this page was made for; the browser checks that.
async function bytesOf(address, integrity, what) {
  try {
    const answer = await fetch(address, { integrity });
    if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
    return await answer.arrayBuffer();
  } catch (error) {
    throw new Error(`${what} cannot be loaded from ${address}, or is another than this page was made for (${error.message})`);
  }
}

async function started() {
  if (location.protocol === "file:") {
    throw new Error("browsers load no model beside a page opened as a file: run python -m http.server in its folder, and open http://localhost:8000");
  }
  const [script, binary] = FACTS.runtime.files.map(([name, integrity]) =>
    bytesOf(new URL(name, new URL(FACTS.runtime.place, document.baseURI)), integrity, "ONNX Runtime Web"),
  );
  const [model, code, wasm] = await Promise.all([
    bytesOf(FACTS.model.path, FACTS.model.integrity, "the model"), script, binary,
  ]);
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const ort = await import(address);
  URL.revokeObjectURL(address);
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = 1; // more need headers that plain file servers do not send
  // Messages of one field each add up in Protocol Buffers: nodes and outputs written behind a graph become its own.
  const graph = new Uint8Array(model.byteLength + (FACTS.map ? fromBase64(FACTS.map).length : 0));
  graph.set(new Uint8Array(model));
  if (FACTS.map) graph.set(fromBase64(FACTS.map), model.byteLength);
  return { ort, session: await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] }) };
}

// Width, height and RGBA of an image file, turned as its EXIF orientation says, its colours as the file has them.
async function decoded(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const why = refusal(bytes);
  if (why) throw new Error(why);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error("it is no image that this browser reads");
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error(`it has ${width} x ${height} pixels, which are too many here`);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return { width, height, rgba: context.getImageData(0, 0, width, height).data, canvas };
}

function isTransparent(rgba) {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] !== 255) return true;
  return false;
}

function scoresOf(logits) {
  if (FACTS.activation === "sigmoid") return logits.map((x) => 0.5 * (1 + Math.tanh(0.5 * x)));
  if (FACTS.activation !== "softmax") return logits;
  const most = Math.max(...logits), powers = logits.map((x) => Math.exp(x - most));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}

// Everything the network says of an image: scores of all classes, the best first in `order`, and their maps.
async function answered({ ort, session }, image) {
  const steps = FACTS.preprocess, [high, wide] = steps.crop;
  const [tall, broad] = resizedSize(steps, image.height, image.width);
  if (tall * broad > MOST_PIXELS) throw new Error("it is too elongated to resize its short edge");
  const values = prepared(image.rgba, image.height, image.width, steps);
  const input = new ort.Tensor("float32", values, [1, steps.channels, high, wide]);
  const outputs = await session.run({ [session.inputNames[0]]: input });
  const logits = Array.from(outputs.logits.data);
  if (!logits.every(Number.isFinite)) throw new Error("the network's answer is not finite");
  const order = logits.map((_, i) => i).sort((a, b) => logits[b] - logits[a] || a - b);
  const maps = FACTS.map && {
    values: outputs["cam"].data,
    height: Number(outputs["cam.shape"].data[2]),
    width: Number(outputs["cam.shape"].data[3]),
  };
  return { logits, scores: scoresOf(logits), order, maps };
}

// A class' map from 0, nothing or against it, to 1, the strongest place.
function heatOf({ values, height, width }, label) {
  const own = Array.from(values.slice(label * height * width, (label + 1) * height * width), (x) => Math.max(x, 0));
  const most = Math.max(...own) || 1;
  return { height, width, values: own.map((x) => x / most) };
}

// Left, top, right and bottom of what the network was shown, in the image's own pixels.
function shownPart(image) {
  const steps = FACTS.preprocess, [tall, broad] = resizedSize(steps, image.height, image.width);
  const edges = [[broad, steps.crop[1], image.width], [tall, steps.crop[0], image.height]].map(([have, want, own]) => {
    const start = cropStart(have, want);
    return [(start * own) / have, ((start + want) * own) / have];
  });
  return [edges[0][0], edges[1][0], edges[0][1], edges[1][1]];
}

function coloured(at) {
  const next = Math.max(FACTS.colours.findIndex(([place]) => place >= at), 1);
  const [[from, low], [to, high]] = [FACTS.colours[next - 1], FACTS.colours[next]];
  return low.map((value, i) => value + ((high[i] - value) * (at - from)) / (to - from));
}

// The value of a map between its places, by those around.
function between({ values, height, width }, x, y) {
  const clamped = (v, most) => Math.min(Math.max(v, 0), most);
  const [u, v] = [clamped(x * width - 0.5, width - 1), clamped(y * height - 0.5, height - 1)];
  const [left, top] = [Math.floor(u), Math.floor(v)];
  const [right, bottom] = [Math.min(left + 1, width - 1), Math.min(top + 1, height - 1)];
  const row = (at) => values[at * width + left] * (1 - (u - left)) + values[at * width + right] * (u - left);
  return row(top) * (1 - (v - top)) + row(bottom) * (v - top);
}

function draw(image, heat) {
  const scale = Math.min(1, LONGEST / Math.max(image.width, image.height));
  const canvas = $("picture"), context = canvas.getContext("2d", { willReadFrequently: true });
  canvas.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = Math.max(1, Math.round(image.height * scale));
  context.imageSmoothingQuality = "high";
  context.drawImage(image.canvas, 0, 0, canvas.width, canvas.height);
  const [left, top, right, bottom] = shownPart(image).map((edge) => edge * scale);
  const shown = context.getImageData(0, 0, canvas.width, canvas.height), data = shown.data;
  for (let y = 0, at = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++, at += 4) {
      const inside = x + 0.5 >= left && x + 0.5 <= right && y + 0.5 >= top && y + 0.5 <= bottom;
      const value = inside && heat ? between(heat, (x + 0.5 - left) / (right - left), (y + 0.5 - top) / (bottom - top)) : 0;
      const colour = coloured(value), hidden = heat ? value * FACTS.strongest : 0, light = inside ? 1 - hidden : FACTS.unseen;
      for (let c = 0; c < 3; c++) data[at + c] = data[at + c] * light + (inside ? colour[c] * hidden : 0);
    }
  }
  context.putImageData(shown, 0, 0);
}

const nameOf = (label) => FACTS.labels[label] ?? `class ${label}`;

// The picture with the map of one class, which its row says.
function choose(image, answer, label) {
  const heat = answer.maps && heatOf(answer.maps, label);
  draw(image, heat);
  for (const row of $("classes").rows) row.querySelector("button")?.setAttribute("aria-pressed", Number(row.dataset.label) === label);
  const nothing = heat && !heat.values.some((value) => value > 0);
  $("caption").textContent = !heat
    ? FACTS.noMap
    : nothing ? `Nothing speaks for ${nameOf(label)}: no place of its map is above zero.` : `What speaks for ${nameOf(label)}. ${FACTS.how}`;
  $("picture").setAttribute("aria-label", heat ? `The image, with what speaks for ${nameOf(label)}` : "The image");
  $("scale").hidden = !heat;
}

function cell(row, text, kind) {
  const made = row.insertCell();
  made.className = kind;
  made.append(text);
  return made;
}

function list(image, answer) {
  const body = $("classes");
  body.replaceChildren();
  for (const label of answer.order.slice(0, TOP)) {
    const row = body.insertRow(), score = answer.scores[label], threshold = FACTS.thresholds[label];
    row.dataset.label = label;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = nameOf(label);
    button.addEventListener("click", () => choose(image, answer, label));
    cell(row, answer.maps ? button : nameOf(label), "name");
    cell(row, score.toFixed(4), "right");
    if (FACTS.activation === "none") continue;
    const bar = document.createElement("span");
    bar.style.width = `${100 * score}%`;
    cell(row, bar, "bar").setAttribute("aria-hidden", "true");
    if (FACTS.thresholds.length === 0) continue;
    const there = typeof threshold === "number" && score >= threshold;
    const text = typeof threshold === "number" ? `${there ? "yes" : "no"}, ≥ ${Number(threshold.toFixed(4))}` : "";
    cell(row, text, there ? "there" : "absent");
  }
  choose(image, answer, answer.order[0]);
}

let turn = 0;
let loading = null; // the network, or its promise; none where that failed

function start() {
  loading = started();
  loading.then(
    () => turn || say("Ready: the image stays on this computer."),
    (error) => {
      loading = null;
      turn || say(error.message, true);
    },
  );
  return loading;
}

async function classify(file) {
  const mine = ++turn;
  $("result").hidden = true;
  say("Loading the network …");
  try {
    const image = await decoded(file);
    const network = await (loading ?? start());
    if (mine !== turn) return;
    say("Computing …");
    await new Promise((done) => setTimeout(done, 30)); // or the words would not be seen
    const answer = await answered(network, image);
    if (mine !== turn) return;
    list(image, answer);
    $("result").hidden = false;
    say(isTransparent(image.rgba) ? `${file.name}: it is transparent, where browsers keep no colours; the answer may be another than that of densenet predict.` : file.name);
    window.answer = { image: [image.height, image.width], ...answer };
  } catch (error) {
    if (mine !== turn) return;
    say(`${file.name}: ${error.message}`, true);
  }
}

$("file").addEventListener("change", (event) => event.target.files[0] && classify(event.target.files[0]));
addEventListener("paste", (event) => event.clipboardData.files[0] && classify(event.clipboardData.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) classify(event.dataTransfer.files[0]);
  });
}
start();
