// Segment numbers of DICOM SEGs on the grids of their series, by the decoder of Cornerstone3D, with which OHIF shows them.
//
//     node decode.mjs JOBS.json    [{"segmentation": SEG, "slices": [FILE in order, ...], "out": FILE of 16-bit numbers}, ...]
import fs from "node:fs";
import dcmjs from "dcmjs";
import { adaptersSEG } from "@cornerstonejs/adapters";
import { metaData } from "@cornerstonejs/core";

const instances = new Map();

function readBuffer(path) {
  const bytes = fs.readFileSync(path);
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}

function readInstance(path) {
  return dcmjs.data.DicomMetaDictionary.naturalizeDataset(dcmjs.data.DicomMessage.readFile(readBuffer(path)).dict);
}

// What Cornerstone asks for about an image; in a browser the loader of images answers.
function describe(type, path) {
  const instance = instances.get(path);
  if (!instance) return undefined;
  const orientation = instance.ImageOrientationPatient.map(Number);
  const [rowSpacing, columnSpacing] = instance.PixelSpacing.map(Number);
  return {
    instance,
    generalImageModule: { sopInstanceUID: instance.SOPInstanceUID },
    generalSeriesModule: { modality: instance.Modality, seriesInstanceUID: instance.SeriesInstanceUID },
    imagePlaneModule: {
      rows: instance.Rows,
      columns: instance.Columns,
      imageOrientationPatient: orientation,
      rowCosines: orientation.slice(0, 3),
      columnCosines: orientation.slice(3),
      imagePositionPatient: instance.ImagePositionPatient.map(Number),
      pixelSpacing: [rowSpacing, columnSpacing],
      rowPixelSpacing: rowSpacing,
      columnPixelSpacing: columnSpacing,
      frameOfReferenceUID: instance.FrameOfReferenceUID,
    },
  }[type];
}

metaData.addProvider(describe, 10000);
for (const job of JSON.parse(fs.readFileSync(process.argv[2], "utf-8"))) {
  for (const path of job.slices) instances.set(path, readInstance(path));
  const decoder = adaptersSEG.Cornerstone3D.Segmentation;
  const metadataProvider = { get: describe };
  const decoded = await decoder.createFromDICOMSegBuffer(job.slices, readBuffer(job.segmentation), { metadataProvider });
  // a map for each layer of segments that the decoder keeps apart
  const layers = decoded.labelMapImages.map((images) => images.map((image) => Uint16Array.from(image.getPixelData())));
  const planes = layers[0].map((first, plane) => first.map((_, pixel) => layers.reduce((sum, layer) => sum + layer[plane][pixel], 0)));
  fs.writeFileSync(job.out, Buffer.concat(planes.map((plane) => Buffer.from(plane.buffer))));
}
