// The layers of a case: gzip-compressed NIfTI in base64; and the files that the page exports.

async function pump(bytes, stream) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

const inflate = (bytes) => pump(bytes, new DecompressionStream("gzip"));

function fromBase64(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let place = 0; place < letters.length; place++) bytes[place] = letters.charCodeAt(place);
  return bytes;
}

const ARRAYS = { 2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 512: Uint16Array };
const FIRST_VOXEL = 352;

// {bytes, shape: [i, j, k], channels, data, slope, inter, affine}; the first axis runs fastest
async function readNifti(text) {
  if (text === null || text === undefined) return null;
  const bytes = await inflate(fromBase64(text));
  const view = new DataView(bytes.buffer);
  const dims = [...Array(8).keys()].map((place) => view.getInt16(40 + 2 * place, true));
  const affine = [...Array(12).keys()].map((place) => view.getFloat32(280 + 4 * place, true));
  return {
    bytes,
    shape: [dims[1], dims[2], Math.max(1, dims[3])],
    channels: dims[0] > 3 ? dims[4] : 1,
    data: new ARRAYS[view.getInt16(70, true)](bytes.buffer, FIRST_VOXEL),
    slope: view.getFloat32(112, true) || 1,
    inter: view.getFloat32(116, true),
    affine,
  };
}

// a NIfTI file of uint8 on the grid of another one
function writeNifti(like, data) {
  const bytes = new Uint8Array(FIRST_VOXEL + data.length);
  bytes.set(like.bytes.subarray(0, FIRST_VOXEL));
  bytes.set(data, FIRST_VOXEL);
  const view = new DataView(bytes.buffer);
  setType(view, 2, 8);
  view.setInt16(40, 3, true);
  view.setInt16(48, 1, true);
  return bytes;
}

function setType(view, code, bits) {
  view.setInt16(70, code, true);
  view.setInt16(72, bits, true);
  view.setFloat32(112, 1, true);
  view.setFloat32(116, 0, true);
}

// The crop goes back to its place in the file, and the axes into the file's order.
function restore(cropped, shape, facts, background) {
  const full = new Uint16Array(facts.shape.reduce((product, size) => product * size, 1)).fill(background);
  const size = [...facts.shape, 1].slice(0, 3);
  const turn = facts.turn || [[0, 1], [1, 1], [2, 1]]; // file axis -> axis near RAS, and its direction
  const strides = [1, size[0], size[0] * size[1]];
  const step = [0, 0, 0];
  let first = 0;
  turn.forEach(([axis, direction], own) => {
    const start = facts.start[axis];
    step[axis] = direction * strides[own];
    first += (direction > 0 ? start : size[own] - 1 - start) * strides[own];
  });
  let place = 0;
  for (let k = 0; k < shape[2]; k++)
    for (let j = 0; j < shape[1]; j++)
      for (let i = 0; i < shape[0]; i++) full[first + i * step[0] + j * step[1] + k * step[2]] = cropped[place++];
  return full;
}

async function encodeLabelVolume(values, facts, like) {
  const wide = values.some((value) => value > 255);
  const data = wide ? values : Uint8Array.from(values);
  const bytes = new Uint8Array(FIRST_VOXEL + data.byteLength);
  bytes.set(like.bytes.subarray(0, FIRST_VOXEL));
  bytes.set(new Uint8Array(data.buffer), FIRST_VOXEL);
  const view = new DataView(bytes.buffer);
  setType(view, wide ? 512 : 2, wide ? 16 : 8);
  [3, ...facts.shape, 1, 1, 1, 1].forEach((size, place) => view.setInt16(40 + 2 * place, size, true));
  facts.spacing_mm.forEach((size, place) => view.setFloat32(80 + 4 * place, size, true));
  facts.affine.slice(0, 3).flat().forEach((value, place) => view.setFloat32(280 + 4 * place, value, true));
  return pump(bytes, new CompressionStream("gzip"));
}

// A grey PNG, of 16 bits where a value needs them; a canvas would write colours.
async function encodeLabelPicture(values, [width, height]) {
  const wide = values.some((value) => value > 255);
  const rowBytes = width * (wide ? 2 : 1) + 1;
  const rows = new Uint8Array(rowBytes * height);
  for (let j = 0; j < height; j++)
    for (let i = 0; i < width; i++) {
      const value = values[i + j * width];
      if (wide) rows.set([value >> 8, value & 255], j * rowBytes + 1 + 2 * i);
      else rows[j * rowBytes + 1 + i] = value;
    }
  const head = new Uint8Array(13);
  new DataView(head.buffer).setUint32(0, width);
  new DataView(head.buffer).setUint32(4, height);
  head[8] = wide ? 16 : 8;
  const parts = [chunk("IHDR", head), chunk("IDAT", await pump(rows, new CompressionStream("deflate"))), chunk("IEND", new Uint8Array(0))];
  return new Uint8Array(await new Blob([Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), ...parts]).arrayBuffer());
}

function chunk(name, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set([...name].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(data, 8);
  let sum = 0xffffffff;
  for (const byte of bytes.subarray(4, 8 + data.length)) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  view.setUint32(8 + data.length, (sum ^ 0xffffffff) >>> 0);
  return bytes;
}

function download(content, name, kind) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
