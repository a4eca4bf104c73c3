// The page: one case at a time in one pane per result, its numbers, decisions and exports.

const overview = JSON.parse(element("overview").textContent);
const decisions = new Decisions(`${overview.title} ${overview.cases.length} ${overview.cases[0].name}`);
const LAYERS = [["reference", "reference", true], ["prediction", "prediction", true], ["errors", "error map", false], ["probability", "probability", false]];
const state = { outlined: true, crosshair: true, channel: 0, plane: "all", vox: null, current: null, layers: null, low: 0, high: 1 };
const panes = [];
const pens = overview.labels.filter((label) => !label.region);

async function fetchCase(number) {
  const block = element(`case-${number}`);
  if (block) return JSON.parse(block.textContent);
  const answer = await fetch(`case/${number}?token=${encodeURIComponent(overview.token)}`);
  return answer.ok ? answer.json() : { error: `The server answered ${answer.status}. Is it still running?` };
}

async function readCase(number) {
  const content = await fetchCase(number);
  if (content.error) return content;
  const [images, predictions, instances] = await Promise.all([content.images, content.predictions, content.instances].map((texts) => Promise.all(texts.map(readNifti))));
  return { images, predictions, instances, reference: await readNifti(content.reference), probabilities: await readNifti(content.probabilities), facts: content.facts };
}

let asked = 0;
async function choose(name) {
  const number = overview.cases.findIndex((one) => one.name === name);
  if (number < 0) return say(`There is no case ${name} on this page.`);
  const turn = ++asked;
  stopBrush();
  state.current = name;
  element("case").textContent = name;
  document.title = `${name} – ${overview.title}`;
  history.replaceState(null, "", `#case=${encodeURIComponent(name)}`);
  list.reveal(name);
  const layers = await readCase(number);
  if (turn !== asked) return;
  say(layers.error || "");
  state.layers = layers.error ? null : layers;
  element("panes").style.visibility = layers.error ? "hidden" : "visible";
  showDecision();
  element("numbers").replaceChildren();
  if (layers.error) return;
  state.channel = Math.min(state.channel, layers.images.length - 1);
  fillSelect(element("channel"), layers.images.map((_, place) => [String(place), overview.channels[place] || `channel ${place + 1}`]), String(state.channel));
  state.vox = layers.images[0].shape.map((size) => Math.floor(size / 2));
  offerWindows();
  for (const pane of panes) await pane.load(layers);
  if (!goToWorst()) await refresh();
  showNumbers();
}

function say(text) {
  element("note").textContent = text;
  element("note").hidden = !text;
}

const chosenLabel = () => element("label").value;
const setting = (layer) => ({ on: element(`on-${layer}`).checked, opacity: element(`opacity-${layer}`).value / 100 });

// the layers of a pane as {name, indices, colours, opacity, outlined, outlines}
function buildMaps(place) {
  const { reference, predictions, probabilities, instances } = state.layers;
  const prediction = predictions[place];
  const numLabels = overview.labels.length;
  const visible = (layer) => (setting(layer).on ? setting(layer).opacity : 0);
  const map = (name, source, colours, objects) => {
    const indices = indexLabels(source, overview.labels, chosenLabel());
    return { name, colours, numLabels, opacity: visible(name), outlined: state.outlined, indices, outlines: state.outlined ? joinObjects(indices, objects) : indices };
  };
  const maps = [];
  if (reference) maps.push(map("reference", reference, REFERENCE_COLOURS, instances[0]));
  if (prediction) maps.push(map("prediction", prediction, PREDICTION_COLOURS, instances[place + 1]));
  if (reference && prediction) {
    const indices = compareMaps(reference, prediction, overview.labels, chosenLabel(), overview.ignore);
    maps.push({ name: "errors", colours: ERROR_COLOURS.slice(1), numLabels: 4, opacity: visible("errors"), outlined: false, indices });
  }
  if (probabilities && place === 0) maps.push(buildProbability(probabilities, visible("probability")));
  return maps;
}

function buildProbability(probabilities, opacity) {
  const area = probabilities.shape.reduce((product, size) => product * size, 1);
  const own = overview.labels.findIndex((label) => label.name === chosenLabel());
  const chances = () => {
    const sum = new Uint8Array(area);
    for (let part = 0; part < probabilities.channels; part++)
      if (own < 0 || own === part) for (let place = 0; place < area; place++) sum[place] = Math.min(255, sum[place] + probabilities.data[place + part * area]);
    return sum;
  };
  return { name: "probability", opacity, outlined: false, indices: new Uint8Array(area), gradient: true, chances };
}

async function refresh() {
  if (!state.layers) return;
  const { facts } = state.layers;
  const picture = overview.kind === "picture";
  const full = picture ? facts.shape : turned(facts.shape, facts.turn);
  const view = {
    low: state.low, high: state.high, channel: state.channel, crosshair: state.crosshair, plane: state.plane, start: facts.start, full,
    spacing_mm: picture ? facts.spacing_mm : turned(facts.spacing_mm, facts.turn), spacing: 1, unit: picture ? "px" : "mm",
  };
  for (const [place, pane] of panes.entries()) await pane.set(view, buildMaps(place), state.vox);
  showValue();
}

function turned(values, turn) {
  const near = [];
  (turn || []).forEach(([axis], own) => (near[axis] = values[own]));
  return near;
}

function setCrosshair(vox, source) {
  state.vox = vox;
  for (const pane of panes) if (pane !== source || overview.kind === "picture") pane.setCrosshair(vox);
  showValue();
}

function valueAt(map, vox, channel = 0) {
  const [width, height, depth] = map.shape;
  return map.data[vox[0] + width * (vox[1] + height * (vox[2] + depth * channel))] * map.slope + map.inter;
}

const nameOf = (value) => overview.labels.find((label) => !label.region && label.values.includes(value))?.name || "background";
const trim = (value, digits = 7) => String(Number(value.toPrecision(digits)));
const separate = (value) => Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 20 });

function showValue() {
  if (!state.layers || !state.vox) return;
  const { images, reference, predictions, probabilities, instances, facts } = state.layers;
  const image = images[state.channel];
  const values = [...Array(image.channels).keys()].map((channel) => trim(valueAt(image, state.vox, channel)));
  const [x, y, z] = [0, 1, 2].map((row) => [0, 1, 2].reduce((sum, axis) => sum + image.affine[4 * row + axis] * state.vox[axis], image.affine[4 * row + 3]));
  const place = overview.kind === "picture" ? `column ${state.vox[0]}, row ${state.vox[1]}` : `${trim3(x)}, ${trim3(y)}, ${trim3(z)} mm (RAS)`;
  const parts = [place, `image ${image.slope === 1 ? "" : "about "}${values.join(", ")}`];
  const named = (map, number) => `${nameOf(valueAt(map, state.vox))}${instances[number] && valueAt(instances[number], state.vox) ? ` ${valueAt(instances[number], state.vox)}` : ""}`;
  if (reference) parts.push(`reference ${named(reference, 0)}`);
  predictions.forEach((map, number) => map && parts.push(`${predictions.length > 1 ? overview.results[number] : "prediction"} ${named(map, number + 1)}`));
  element("value").textContent = parts.join("  ·  ");
  element("value").dataset.value = values.join(",");
  element("value").dataset.world = [x, y, z].join(",");
}

const trim3 = (value) => value.toFixed(1);

function goToWorst() {
  const { reference, predictions, images } = state.layers || {};
  if (!reference || !predictions[0]) return false;
  const errors = compareMaps(reference, predictions[0], overview.labels, chosenLabel(), overview.ignore);
  const worst = findWorst(errors, images[0].shape);
  if (worst) state.vox = worst;
  refresh();
  return true;
}

function offerWindows() {
  const image = state.layers.images[state.channel];
  const sample = [];
  for (let place = 0, step = Math.max(1, Math.floor(image.data.length / 20000)); place < image.data.length; place += step) sample.push(image.data[place] * image.slope + image.inter);
  sample.sort((one, other) => one - other);
  const at = (share) => sample[Math.min(sample.length - 1, Math.floor(share * sample.length))];
  const colour = image.channels === 3;
  state.windows = { auto: colour ? [0, 255] : [at(0.01), at(0.995)], full: [sample[0], sample.at(-1)] };
  if (sample[0] < -300) Object.assign(state.windows, { "soft tissue": [-160, 240], lung: [-1350, 150], bone: [-450, 1050], brain: [0, 80], liver: [0, 150] });
  fillSelect(element("window"), Object.keys(state.windows).map((name) => [name, `${name} window`]), "auto");
  setWindow("auto");
}

function setWindow(name) {
  [state.low, state.high] = state.windows[name];
  if (state.high <= state.low) state.high = state.low + 1;
  [element("low").value, element("high").value] = [trim(state.low, 4), trim(state.high, 4)];
}

function showNumbers() {
  const { reference, predictions } = state.layers;
  const one = overview.cases.find((which) => which.name === state.current);
  const rows = [];
  const different = [];
  overview.results.forEach((result, place) => {
    for (const label of overview.labels) {
      const stated = one.numbers[place]?.[label.name] || {};
      const counts = reference && predictions[place] ? countErrors(reference, predictions[place], label.values, overview.ignore) : null;
      const dice = counts ? computeDice(counts) : null;
      if (counts && "dice" in stated && Math.abs((stated.dice ?? -1) - (dice ?? -1)) > 1e-6) different.push(`${label.name} of ${result}`);
      rows.push({ result, label: label.name, stated, counts, dice });
    }
  });
  if (different.length) say(`Dice computed here is not that of metrics.csv: ${different.join(", ")}. The files changed after the evaluation; evaluate again.`);
  element("numbers").replaceChildren(buildTable(rows));
}

function buildTable(rows) {
  const several = overview.results.length > 1;
  const others = [...new Set(rows.flatMap(({ stated }) => Object.keys(stated)))].filter((name) => !["dice", "num_voxels_reference", "num_voxels_prediction", "voxel_volume"].includes(name) && !/^ap_\d+$/.test(name));
  const heads = ["label", ...(several ? ["result"] : []), "Dice", "missed", "false alarm", "agreed", ...others.map((name) => overview.metrics[name] || name)];
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  heads.forEach((text) => (head.appendChild(document.createElement("th")).textContent = text));
  const body = table.createTBody();
  for (const { result, label, stated, counts, dice } of rows) {
    const line = body.insertRow();
    Object.assign(line.dataset, { label, result, dice: dice ?? "", ...(counts || {}) });
    const cells = [label, ...(several ? [result] : []), shorten(dice ?? stated.dice, 4), ...["missed", "false_alarm", "agreed"].map((name) => (counts ? counts[name].toLocaleString("en") : "–"))];
    cells.push(...others.map((name) => (stated[name] === null || stated[name] === undefined ? "–" : separate(stated[name]))));
    cells.forEach((text, place) => Object.assign(line.insertCell(), { textContent: text }).dataset.head = heads[place]);
  }
  return table;
}

function showDecision() {
  const { decision, note } = decisions.of(state.current);
  document.querySelectorAll("[data-decision]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.decision === decision));
  element("remark").value = note;
}

function decide(decision) {
  decisions.set(state.current, { decision: decisions.of(state.current).decision === decision ? "" : decision });
  showDecision();
  list.show();
}

// brush

async function startBrush() {
  const { predictions, reference, images } = state.layers || {};
  if (!images) return;
  const start = predictions[0] || reference;
  state.brush = new Brush(start ? indexLabels(start, pens, "") : new Uint8Array(images[0].data.length / images[0].channels));
  state.brush.pen = Number(element("pen").value);
  await panes[0].startBrush(state.brush);
  element("brush-tools").hidden = false;
}

function stopBrush() {
  if (!state.brush) return;
  panes[0].stopBrush();
  state.brush = null;
  element("brush-tools").hidden = true;
}

function setPen() {
  if (!state.brush) return;
  [state.brush.pen, state.brush.size] = [Number(element("pen").value), Number(element("pen-size").value)];
  panes[0].setPen?.(state.brush.pen, state.brush.size);
}

async function saveBrush() {
  const { facts, images } = state.layers;
  const indices = panes[0].readBrush();
  const values = Uint16Array.from(indices, (index) => (index ? pens[index - 1].values[0] : overview.background));
  const full = restore(values, images[0].shape, facts, overview.background);
  const picture = overview.kind === "picture";
  const bytes = picture ? await encodeLabelPicture(full, facts.shape) : await encodeLabelVolume(full, facts, images[0]);
  download(bytes, `${state.current}_corrected${picture ? ".png" : ".nii.gz"}`, "application/octet-stream");
}

function savePicture() {
  const shots = panes.map((pane) => pane.snapshot());
  const canvas = document.createElement("canvas");
  const line = 26;
  [canvas.width, canvas.height] = [shots.reduce((sum, { width }) => sum + width, 0), shots[0].height + line];
  const context = canvas.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  let left = 0;
  for (const shot of shots) {
    context.drawImage(shot, left, 0);
    left += shot.width;
  }
  context.fillStyle = "#fff";
  context.font = "14px system-ui, sans-serif";
  const shown = LAYERS.filter(([name]) => element(`on-${name}`)?.checked).map(([, text]) => text);
  context.fillText(`${overview.title}  ·  ${state.current}  ·  ${shown.join(", ")}`, 8, shots[0].height + 18);
  canvas.toBlob((blob) => download(blob, `${state.current}.png`), "image/png");
}

// controls

function buildControls() {
  const samples = { reference: REFERENCE_COLOURS.slice(0, pens.length), prediction: PREDICTION_COLOURS.slice(0, pens.length), errors: ERROR_COLOURS.slice(1), probability: [] };
  element("layers").replaceChildren(...LAYERS.map(([name, text, on], place) => buildLayer(name, text, on, place, samples[name])));
  const fill = element("layers").appendChild(document.createElement("button"));
  fill.id = "outline";
  fill.title = "O";
  fill.textContent = "outline";
  fill.addEventListener("click", () => toggle("outlined", fill));
  const cross = element("layers").appendChild(document.createElement("button"));
  cross.id = "crosshair";
  cross.title = "C";
  cross.textContent = "crosshair";
  cross.addEventListener("click", () => toggle("crosshair", cross));
  [fill, cross].forEach((button) => button.setAttribute("aria-pressed", true));
  fillSelect(element("plane"), overview.kind === "picture" ? [] : ["all", "axial", "coronal", "sagittal", "3D"].map((name) => [name, name === "all" ? "all planes" : name]), "all");
  fillSelect(element("pen"), [...pens.map(({ name }, place) => [String(place + 1), name]), ["0", "erase"]], "1");
  if (!overview.probabilities) element("on-probability").closest(".layer").hidden = true;
  element("licence").textContent = overview.kind === "picture" ? "" : " Volumes are drawn by NiiVue, © 2021 Niivue, BSD 2-Clause licence.";
  element("title").textContent = overview.title;
}

function toggle(what, button) {
  state[what] = !state[what];
  button.setAttribute("aria-pressed", state[what]);
  refresh();
}

function buildLayer(name, text, on, place, colours) {
  const box = document.createElement("span");
  box.className = "layer";
  const label = box.appendChild(document.createElement("label"));
  const check = label.appendChild(Object.assign(document.createElement("input"), { type: "checkbox", id: `on-${name}`, checked: on }));
  label.append(` ${text} `);
  label.title = `key ${place + 1}`;
  colours.forEach((colour, index) => {
    const swatch = label.appendChild(document.createElement("span"));
    swatch.className = "swatch";
    swatch.style.background = colour;
    swatch.title = name === "errors" ? ERROR_NAMES[index + 1] : pens[index].name;
    if (name === "errors") label.appendChild(Object.assign(document.createElement("span"), { className: "meaning", textContent: ` ${swatch.title} ` }));
  });
  const opacity = Object.assign(document.createElement("input"), { type: "range", id: `opacity-${name}`, min: 5, max: 100, value: name === "errors" || name === "probability" ? 60 : 90, ariaLabel: `opacity of the ${text}` });
  box.append(opacity);
  [check, opacity].forEach((input) => input.addEventListener("input", refresh));
  return box;
}

const zoom = (factor) => panes.forEach((pane) => pane.zoomAt(null, factor));
const press = (id) => element(id)?.click();
const KEYS = {
  j: () => list.step(1), k: () => list.step(-1), ArrowDown: () => list.step(1), ArrowUp: () => list.step(-1),
  1: () => press("on-reference"), 2: () => press("on-prediction"), 3: () => press("on-errors"), 4: () => press("on-probability"),
  o: () => press("outline"), c: () => press("crosshair"), w: goToWorst, b: () => (state.brush ? stopBrush() : startBrush()),
  a: () => decide("accept"), f: () => decide("fix"), x: () => decide("exclude"), "?": () => element("help").showModal(),
};

function listen() {
  const on = (id, act, kind = "click") => element(id).addEventListener(kind, act);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=checkbox]):not([type=range]), select") || event.ctrlKey || event.metaKey || event.altKey || element("help").open;
    const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || typing) return;
    event.preventDefault();
    event.stopPropagation(); // NiiVue has keys of its own
    act();
  }, true);
  on("previous", () => list.step(-1));
  on("next", () => list.step(1));
  on("help-button", () => element("help").showModal());
  on("cases-button", () => element("cases").classList.toggle("open"));
  on("worst", goToWorst);
  on("zoom-in", () => zoom(1.4));
  on("zoom-out", () => zoom(1 / 1.4));
  on("reset", () => panes.forEach((pane) => pane.resetView()));
  on("png", savePicture);
  on("label", () => (goToWorst() || refresh()), "input");
  on("plane", (event) => ((state.plane = event.target.value), refresh()), "input");
  on("channel", (event) => ((state.channel = Number(event.target.value)), offerWindows(), refresh()), "input");
  on("window", (event) => (setWindow(event.target.value), refresh()), "input");
  for (const id of ["low", "high"]) on(id, () => ((state[id] = Number(element(id).value)), refresh()), "change");
  document.querySelectorAll("[data-decision]").forEach((button) => button.addEventListener("click", () => decide(button.dataset.decision)));
  on("remark", (event) => (decisions.set(state.current, { note: event.target.value }), list.show()), "change");
  on("export", () => download(decisions.toCsv(), "decisions.csv", "text/csv"));
  on("import", importDecisions, "change");
  on("brush", () => (state.brush ? stopBrush() : startBrush()));
  on("pen", setPen, "input");
  on("pen-size", setPen, "input");
  on("undo", () => panes[0].undo());
  on("save", saveBrush);
  on("leave", stopBrush);
  window.addEventListener("hashchange", followAddress);
}

async function importDecisions(event) {
  const taken = decisions.readCsv(await event.target.files[0].text(), new Set(overview.cases.map(({ name }) => name)));
  say(taken ? "" : "The file has no decision about a case of this page; expected the columns case, decision and note.");
  showDecision();
  list.show();
}

function followAddress() {
  const name = new URLSearchParams(location.hash.slice(1)).get("case");
  if (name && name !== state.current) choose(name);
}

buildControls();
const list = new CaseList(overview, decisions, choose);
overview.results.forEach((result) => {
  const host = element("panes").appendChild(document.createElement("div"));
  host.className = "pane";
  if (overview.results.length > 1) host.appendChild(document.createElement("h3")).textContent = result;
  const stage = host.appendChild(document.createElement("div"));
  stage.className = "stage";
  panes.push(new (overview.kind === "picture" ? PicturePane : VolumePane)(stage, setCrosshair));
});
listen();
followAddress();
if (!state.current) choose((list.shown[0] || overview.cases[0]).name);
