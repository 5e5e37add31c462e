// Labels of a crop from region masks. The arithmetic and its order are those of the Python loader (annotations.masks,
// views.view, labelling), so that both agree. Independent of the page. Thresholds and rules come from Python as `policy`.
"use strict";

const PRESENT = 1, ABSENT = 0, UNDECIDED = -1;

// Decodes compressed COCO RLE counts to run lengths, background first; see mlimagenet_data/annotations/masks.py.
function decodeCounts(counts, cells) {
  const runs = [];
  let value = 0, shift = 0, sum = 0;
  for (let k = 0; k < counts.length; k++) {
    const bits = counts.charCodeAt(k) - 48;
    if (bits < 0 || bits > 63 || shift > 25) throw new Error("invalid RLE character, or number too long");
    value += (bits & 31) * 2 ** shift;
    shift += 5;
    if (bits & 32) continue;
    if (bits & 16) value -= 2 ** shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    if (value < 0) throw new Error("negative run length");
    runs.push(value);
    sum += value;
    value = shift = 0;
  }
  if (shift || sum !== cells) throw new Error("run lengths do not add up to the mask's cells");
  return runs;
}

// Decodes a region's runs: adds `ends`, the cell after each run, and `cells`, the number of cells in the mask.
function decodeRegion(region) {
  const [height, width] = region.grid;
  const ends = [];
  let position = 0, cells = 0;
  decodeCounts(region.counts, height * width).forEach((run, k) => {
    ends.push(position += run);
    if (k % 2) cells += run;
  });
  return { ...region, ends, cells };
}

// Returns the mask of a decoded region as a Uint8Array, column by column.
function decodeMask(region) {
  const mask = new Uint8Array(region.grid[0] * region.grid[1]);
  for (let k = 1; k < region.ends.length; k += 2) mask.fill(1, region.ends[k - 1], region.ends[k]);
  return mask;
}

// Returns the area, in cells, of a decoded region inside a box given as fractions of the image. This equals
// rows @ mask @ columns with each cell's overlap with the box. Here it is a sum over runs, from the box's area before
// each run's end.
function visibleCells(region, box) {
  const [height, width] = region.grid;
  const top = box.top * height, bottom = Math.max(box.top, box.bottom) * height;
  const left = box.left * width, right = Math.max(box.left, box.right) * width;
  const clip = (value, low, high) => Math.min(Math.max(value, low), high) - low;
  const before = (cell) => {
    const column = Math.floor(cell / height);
    const here = clip(column, left, right);
    if (column >= width) return here * (bottom - top);
    const part = (clip(column + 1, left, right) - here) * clip(cell - column * height, top, bottom);
    return part + here * (bottom - top);
  };
  let sum = 0;
  for (let k = 1; k < region.ends.length; k += 2) sum += before(region.ends[k]) - before(region.ends[k - 1]);
  return Math.max(sum, 0); // a region out of view leaves a rounding error
}

// Returns the view of a crop {top, left, height, width} of an image [height, width], both in pixels: `box`, the visible
// part as fractions of the image; `visible`, its share of the image; `area`, the whole crop as a share of the image.
function viewOf([imageHeight, imageWidth], crop) {
  const y0 = Math.max(0, crop.top), y1 = Math.min(imageHeight, crop.top + crop.height);
  const x0 = Math.max(0, crop.left), x1 = Math.min(imageWidth, crop.left + crop.width);
  const area = (crop.height * crop.width) / (imageHeight * imageWidth);
  if (!(y1 > y0 && x1 > x0)) return { box: { top: 0, left: 0, bottom: 0, right: 0 }, visible: 0, area };
  const box = { top: y0 / imageHeight, left: x0 / imageWidth, bottom: y1 / imageHeight, right: x1 / imageWidth };
  return { box, visible: ((y1 - y0) * (x1 - x0)) / (imageHeight * imageWidth), area };
}

// Returns a region's {visibility, coverage} in a view.
function sharesOf(region, view) {
  const seen = visibleCells(region, view.box);
  const viewCells = region.grid[0] * region.grid[1] * view.area;
  return { visibility: region.cells ? seen / region.cells : 0, coverage: viewCells > 0 ? seen / viewCells : 0 };
}

// The same as LabelPolicy.state in Python.
function stateOf(policy, visibility, coverage) {
  if (visibility >= policy.visibility - policy.rounding || coverage >= policy.coverage - policy.rounding) return PRESENT;
  const unseen = visibility <= policy.absent_visibility + policy.rounding;
  return unseen && coverage <= policy.absent_coverage + policy.rounding ? ABSENT : UNDECIDED;
}

// Returns the positions of the regions that count for a class. The same as LabelPolicy.least_score in Python.
function regionsFor(regions, index, original, policy) {
  const scores = [];
  regions.forEach((region, k) => {
    for (const [other, score] of region.topk) if (other === index) scores[k] = score;
  });
  const best = scores.reduce((most, score) => Math.max(most, score), 0);
  const isMain = index === original && policy.original === "unless_gone";
  const least = Math.max(Math.min(policy.min_score, best), isMain ? policy.main_share * best : 0);
  return Object.keys(scores).map(Number).filter((k) => scores[k] >= least);
}

// Labels a crop of an image. Returns the `view`; `shares` and `regionStates` of each region; `states`, a Map from each
// class of the image (and an original label that a rule adds) to PRESENT, ABSENT or UNDECIDED; `where`, a Map from each
// located class to its regions.
function labelCrop(image, regions, policy, crop) {
  const view = viewOf(image.size, crop);
  const shares = regions.map((region) => sharesOf(region, view));
  const regionStates = shares.map((share) => stateOf(policy, share.visibility, share.coverage));
  const states = new Map(), where = new Map();
  for (const [index, score] of image.labels) {
    const exempt = index === image.original && policy.original !== "as_others";
    if (score < policy.label_score && !exempt) continue;
    const found = regionsFor(regions, index, image.original, policy);
    if (found.length) {
      where.set(index, found);
      const seen = found.map((k) => regionStates[k]);
      states.set(index, seen.includes(PRESENT) ? PRESENT : seen.includes(UNDECIDED) ? UNDECIDED : ABSENT);
    } else if (policy.unlocated === "spread") {
      states.set(index, stateOf(policy, view.visible, 0));
    } else {
      states.set(index, policy.unlocated === "keep" ? PRESENT : ABSENT);
    }
  }
  applyOriginalRules(image.original, policy, states, where);
  return { view, shares, regionStates, states, where };
}

function applyOriginalRules(original, policy, states, where) {
  if (original === null) return;
  if (policy.original === "if_located" && !where.has(original)) states.delete(original);
  if (policy.original === "unless_gone" && states.get(original) === UNDECIDED) states.set(original, PRESENT);
  const empty = policy.empty === "original" && ![...states.values()].includes(PRESENT);
  if (policy.original === "always" || empty) states.set(original, PRESENT);
}
