// What is computed of label maps: the error map, its counts, Dice, and outlines.

// Okabe and Ito's colours, told apart with any kind of colour vision: references are cool, predictions warm, so that both never look alike
const REFERENCE_COLOURS = ["#56B4E9", "#009E73", "#0072B2", "#7FDBCA", "#A6C8FF"];
const PREDICTION_COLOURS = ["#E69F00", "#D55E00", "#F0E442", "#CC79A7", "#FFB38A"];
const MISSED = 1, FALSE_ALARM = 2, AGREED = 3, OTHER_LABEL = 4;
const ERROR_COLOURS = ["#000000", "#56B4E9", "#E69F00", "#8C8C8C", "#CC79A7"];
const ERROR_NAMES = ["", "missed", "false alarm", "agreed", "other label"];

const rgb = (colour) => [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
const colourOf = (colours, index) => colours[index % colours.length];

// value -> 1 where it belongs to the label; a table is faster than a set
function tableOf(values) {
  const table = new Uint8Array(65536);
  values.forEach((value) => (table[value] = 1));
  return table;
}

// The chosen label, or null for all: each voxel gets the label's place in the list, from 1, and 0 for background.
function indexLabels(map, labels, chosen) {
  const table = new Uint8Array(65536);
  labels.forEach((label, place) => {
    if (chosen ? label.name === chosen : !label.region) label.values.forEach((value) => (table[value] = place + 1));
  });
  const found = new Uint8Array(map.data.length);
  for (let place = 0; place < found.length; place++) found[place] = table[map.data[place]];
  return found;
}

function compareMaps(reference, prediction, labels, chosen, ignore) {
  const errors = new Uint8Array(reference.data.length);
  const truth = indexLabels(reference, labels, chosen);
  const found = indexLabels(prediction, labels, chosen);
  for (let place = 0; place < errors.length; place++) {
    if (ignore !== null && reference.data[place] === ignore) continue;
    const [one, other] = [truth[place], found[place]];
    if (one && other) errors[place] = one === other ? AGREED : OTHER_LABEL;
    else if (one) errors[place] = MISSED;
    else if (other) errors[place] = FALSE_ALARM;
  }
  return errors;
}

function countErrors(reference, prediction, values, ignore) {
  const table = tableOf(values);
  const counts = { missed: 0, false_alarm: 0, agreed: 0 };
  for (let place = 0; place < reference.data.length; place++) {
    if (ignore !== null && reference.data[place] === ignore) continue;
    const [one, other] = [table[reference.data[place]], table[prediction.data[place]]];
    if (one && other) counts.agreed++;
    else if (one) counts.missed++;
    else if (other) counts.false_alarm++;
  }
  return counts;
}

// null where both are empty
function computeDice({ missed, false_alarm, agreed }) {
  const sum = 2 * agreed + missed + false_alarm;
  return sum ? (2 * agreed) / sum : null;
}

// In the slice with most errors, the wrong voxel with most of them around it; null without errors.
function findWorst(errors, [width, height, depth]) {
  const isWrong = (value) => value && value !== AGREED;
  const area = width * height;
  const perSlice = new Uint32Array(depth);
  for (let place = 0; place < errors.length; place++) if (isWrong(errors[place])) perSlice[Math.floor(place / area)]++;
  const k = perSlice.reduce((most, count, slice) => (count > perSlice[most] ? slice : most), 0);
  if (!perSlice[k]) return null;
  const wrong = errors.subarray(k * area, (k + 1) * area).map((value) => (isWrong(value) ? 1 : 0));
  const sums = sumCorners(wrong, width, height);
  const reach = Math.max(2, Math.round(Math.min(width, height) / 30));
  let [best, most] = [0, -1];
  for (let place = 0; place < area; place++) {
    const around = wrong[place] ? sums(place % width, Math.floor(place / width), reach) : -1;
    if (around > most) [best, most] = [place, around];
  }
  return [best % width, Math.floor(best / width), k];
}

// a function that sums a plane in a square around a place, from the sums of its corners
function sumCorners(plane, width, height) {
  const sums = new Uint32Array((width + 1) * (height + 1));
  for (let j = 0; j < height; j++)
    for (let i = 0, row = 0; i < width; i++) {
      row += plane[i + j * width];
      sums[i + 1 + (j + 1) * (width + 1)] = sums[i + 1 + j * (width + 1)] + row;
    }
  const at = (i, j) => sums[Math.min(Math.max(i, 0), width) + Math.min(Math.max(j, 0), height) * (width + 1)];
  return (i, j, reach) => at(i + reach + 1, j + reach + 1) - at(i - reach, j + reach + 1) - at(i + reach + 1, j - reach) + at(i - reach, j - reach);
}

// Each voxel's index with the number of its object, where there is an instance map: touching objects of one label have a border then.
const OBJECT = 256;
function joinObjects(indices, instances) {
  if (!instances) return indices;
  return Float64Array.from(indices, (index, place) => (index ? index + OBJECT * instances.data[place] : 0));
}

// Borders of each index in a plane, as paths in pixels; `at(i, j)` is the index, joined with an object's number or not.
function tracePlane(at, width, height) {
  const paths = new Map();
  const pathOf = (joined) => {
    const index = joined % OBJECT;
    if (!paths.has(index)) paths.set(index, new Path2D());
    return paths.get(index);
  };
  const trace = (outer, inner, pair, draw) => {
    for (let line = 0; line <= outer; line++) {
      const open = new Map(); // index -> where its run began
      for (let place = 0; place <= inner; place++) {
        const sides = place < inner ? pair(line, place) : [0, 0];
        const bordered = sides[0] === sides[1] ? [] : sides.filter(Boolean);
        for (const [index, begin] of open)
          if (!bordered.includes(index)) {
            draw(pathOf(index), line, begin, place);
            open.delete(index);
          }
        bordered.forEach((index) => open.has(index) || open.set(index, place));
      }
    }
  };
  const row = (j, i) => [j > 0 ? at(i, j - 1) : 0, j < height ? at(i, j) : 0];
  const column = (i, j) => [i > 0 ? at(i - 1, j) : 0, i < width ? at(i, j) : 0];
  trace(height, width, row, (path, j, from, to) => (path.moveTo(from, j), path.lineTo(to, j)));
  trace(width, height, column, (path, i, from, to) => (path.moveTo(i, from), path.lineTo(i, to)));
  return paths;
}

function strokeOutlines(context, paths, colours, width) {
  for (const [index, path] of paths)
    for (const [colour, extra] of [["rgba(0,0,0,0.6)", 1.2], [colourOf(colours, index - 1), 0]]) {
      context.lineWidth = width * (1 + extra);
      context.strokeStyle = colour;
      context.stroke(path);
    }
}

// 1, 2 or 5 times a power of ten, at most `most`
function roundLength(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [5, 2, 1].map((step) => step * power).find((length) => length <= most);
}

function drawScaleBar(context, right, bottom, pixelsPerUnit, widest, unit, ratio) {
  const length = roundLength(widest / pixelsPerUnit);
  const pixels = length * pixelsPerUnit;
  context.fillStyle = "#000";
  context.fillRect(right - pixels - ratio, bottom - 3 * ratio, pixels + 2 * ratio, 4 * ratio);
  context.fillStyle = "#fff";
  context.fillRect(right - pixels, bottom - 2 * ratio, pixels, 2 * ratio);
  context.textAlign = "right";
  writeText(context, `${length} ${unit}`, right, bottom - 6 * ratio, ratio);
}

// white with a black rim, which is read on any tissue
function writeText(context, text, x, y, ratio) {
  context.font = `${12 * ratio}px system-ui, sans-serif`;
  [context.lineWidth, context.lineJoin, context.strokeStyle, context.fillStyle] = [3 * ratio, "round", "#000", "#fff"];
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

function drawCross(context, x, y, left, top, width, height, ratio) {
  const gap = 8 * ratio;
  context.strokeStyle = "rgba(255, 255, 255, 0.75)";
  context.lineWidth = ratio;
  context.beginPath();
  for (const [from, to] of [[left, x - gap], [x + gap, left + width]])
    if (to > from) (context.moveTo(from, y), context.lineTo(to, y));
  for (const [from, to] of [[top, y - gap], [y + gap, top + height]])
    if (to > from) (context.moveTo(x, from), context.lineTo(x, to));
  context.stroke();
}

function paintChances(chances, width, height) {
  const pixels = new ImageData(width, height);
  chances.forEach((chance, place) => pixels.data.set([chance, Math.max(0, chance * 2 - 255), 180 - chance * 0.7, chance ? 255 : 0], 4 * place));
  return pixels;
}
