// Drawing of regions over a photograph.
"use strict";

const LONGEST = 1000; // longer side of a canvas in pixels

// Returns a region's [red, green, blue]: golden-ratio steps around the hue circle, as in mlimagenet_data.viewer.sheet.
function regionColour(k) {
  const hue = ((0.58 + 0.618034 * k) % 1) * 6;
  return [5, 3, 1].map((shift) => {
    const place = (shift + hue) % 6;
    return Math.floor(255 * 0.95 * (1 - 0.85 * Math.max(0, Math.min(place, 4 - place, 1))));
  });
}

// Returns black or white, whichever is more readable on a colour (WCAG relative luminance).
function textOn(colour) {
  const [r, g, b] = colour.map((v) => (v <= 10 ? v / 3294 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}

// Resizes a region to (width, height) by nearest neighbour; returns a Uint8Array, row by row.
function stretchMask(region, width, height) {
  const mask = decodeMask(region), [gridHeight, gridWidth] = region.grid;
  const out = new Uint8Array(width * height);
  for (let x = 0; x < width; x++) {
    const column = Math.floor((x * gridWidth) / width) * gridHeight;
    for (let y = 0; y < height; y++) out[y * width + x] = mask[column + Math.floor((y * gridHeight) / height)];
  }
  return out;
}

// Returns {canvas, middle}: a region tinted and outlined, and [x, y] of its pixel closest to its centre of mass.
function paintRegion(region, colour, width, height) {
  const mask = stretchMask(region, width, height), edge = 3;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d"), picture = pen.createImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer); // in the machine's byte order, as are the two colours below
  const [tint, line] = new Uint32Array(new Uint8Array([...colour, 80, ...colour, 255]).buffer);
  let count = 0, sumX = 0, sumY = 0;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!mask[at]) continue;
      count++, (sumX += x), (sumY += y);
      const inside = x >= edge && mask[at - edge] && x + edge < width && mask[at + edge] &&
        y >= edge && mask[at - edge * width] && y + edge < height && mask[at + edge * width];
      pixels[at] = inside ? tint : line;
    }
  }
  pen.putImageData(picture, 0, 0);
  let middle = null, least = Infinity;
  for (let at = 0; at < mask.length; at++) {
    if (!mask[at]) continue;
    const far = ((at % width) - sumX / count) ** 2 + (Math.floor(at / width) - sumY / count) ** 2;
    if (far < least) [least, middle] = [far, [at % width, Math.floor(at / width)]];
  }
  return { canvas, middle };
}

// Draws one image's regions; paints each when it is first shown.
class MaskLayer {
  constructor(canvas) {
    this.canvas = canvas;
    this.load([1, 1], []);
  }

  // Loads an image's [height, width] and decoded regions.
  load([height, width], regions) {
    const scale = LONGEST / Math.max(height, width);
    this.canvas.width = Math.max(LONGEST / 8, Math.round(scale * width));
    this.canvas.height = Math.max(LONGEST / 8, Math.round(scale * height));
    this.regions = regions;
    this.painted = [];
  }

  // Draws the regions at the positions `shown`; fades all but `chosen`, if given.
  draw(shown, chosen = null) {
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const order = [...shown].sort((a, b) => this.regions[b].cells - this.regions[a].cells); // small ones on top
    for (const k of order) {
      pen.globalAlpha = chosen === null || chosen === k ? 1 : 0.15;
      pen.drawImage(this.#paint(k).canvas, 0, 0);
    }
    for (const k of order) {
      pen.globalAlpha = chosen === null || chosen === k ? 1 : 0.15;
      this.#number(pen, k);
    }
  }

  #paint(k) {
    return (this.painted[k] ??= paintRegion(this.regions[k], regionColour(k), this.canvas.width, this.canvas.height));
  }

  #number(pen, k) {
    const { middle } = this.#paint(k), colour = regionColour(k);
    if (!middle) return;
    pen.beginPath();
    pen.arc(...middle, 21, 0, 2 * Math.PI);
    pen.fillStyle = `rgb(${colour})`;
    pen.lineWidth = 3;
    pen.strokeStyle = "#fff";
    pen.fill();
    pen.stroke();
    pen.fillStyle = textOn(colour);
    pen.font = "bold 25px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(k + 1, middle[0], middle[1] + 2);
  }
}
