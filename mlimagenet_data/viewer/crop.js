// The crop box over the image: dragged, moved with keys or set with sliders; in whole pixels of the original image.
"use strict";

const LEAST = 8; // minimum side of a crop in pixels, or the image's side if smaller

// Returns a random crop like torchvision's RandomResizedCrop: 8% to 100% of the image, aspect ratio 3/4 to 4/3.
function randomCrop([imageHeight, imageWidth]) {
  for (let attempt = 0; attempt < 10; attempt++) {
    const area = imageHeight * imageWidth * (0.08 + 0.92 * Math.random());
    const ratio = Math.exp(Math.log(3 / 4) + Math.random() * (Math.log(4 / 3) - Math.log(3 / 4)));
    const width = Math.round(Math.sqrt(area * ratio)), height = Math.round(Math.sqrt(area / ratio));
    if (width < 1 || height < 1 || width > imageWidth || height > imageHeight) continue;
    const top = Math.floor(Math.random() * (imageHeight - height + 1));
    return { top, left: Math.floor(Math.random() * (imageWidth - width + 1)), height, width };
  }
  return { top: 0, left: 0, height: imageHeight, width: imageWidth };
}

class CropBox {
  // Calls `changed` with the crop {top, left, height, width} whenever it changes.
  constructor(stage, box, sliders, changed) {
    Object.assign(this, { stage, box, sliders, changed, size: [1, 1], drag: null });
    for (const edges of ["nw", "n", "ne", "e", "se", "s", "sw", "w"]) {
      const handle = document.createElement("span");
      handle.className = "handle";
      handle.dataset.edges = edges;
      handle.style.left = edges.includes("w") ? "0%" : edges.includes("e") ? "100%" : "50%";
      handle.style.top = edges.includes("n") ? "0%" : edges.includes("s") ? "100%" : "50%";
      handle.style.cursor = `${edges}-resize`;
      box.append(handle);
    }
    stage.addEventListener("pointerdown", (event) => this.#start(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => (this.drag = null));
    box.addEventListener("keydown", (event) => this.#key(event));
    for (const [side, slider] of Object.entries(sliders)) {
      slider.addEventListener("input", () => this.set({ ...this.crop, [side]: Number(slider.value) }));
    }
  }

  load(size) {
    this.size = size;
    this.drag = null;
    this.whole();
  }

  whole() {
    this.set({ top: 0, left: 0, height: this.size[0], width: this.size[1] });
  }

  get isWhole() {
    return this.crop.height === this.size[0] && this.crop.width === this.size[1];
  }

  // Sets the crop after rounding it, enlarging it to the minimum, and moving it into the image.
  set({ top, left, height, width }) {
    const [imageHeight, imageWidth] = this.size;
    const fit = (value, low, high) => Math.min(Math.max(Math.round(value), low), high);
    height = fit(height, Math.min(LEAST, imageHeight), imageHeight);
    width = fit(width, Math.min(LEAST, imageWidth), imageWidth);
    this.crop = { top: fit(top, 0, imageHeight - height), left: fit(left, 0, imageWidth - width), height, width };
    this.#show();
    this.changed(this.crop);
  }

  #show() {
    const { top, left, height, width } = this.crop, [imageHeight, imageWidth] = this.size;
    const style = this.stage.style;
    style.setProperty("--top", `${(100 * top) / imageHeight}%`);
    style.setProperty("--left", `${(100 * left) / imageWidth}%`);
    style.setProperty("--height", `${(100 * height) / imageHeight}%`);
    style.setProperty("--width", `${(100 * width) / imageWidth}%`);
    this.box.classList.toggle("whole", this.isWhole);
    this.sliders.width.max = imageWidth;
    this.sliders.height.max = imageHeight;
    this.sliders.left.max = imageWidth - width;
    this.sliders.top.max = imageHeight - height;
    for (const [side, slider] of Object.entries(this.sliders)) {
      slider.value = this.crop[side];
      slider.disabled = Number(slider.max) <= Number(slider.min);
      slider.setAttribute("aria-valuetext", `${this.crop[side]} pixels`);
    }
  }

  // Returns the pointer position [x, y] in image pixels.
  #point(event) {
    const area = this.stage.getBoundingClientRect();
    const x = ((event.clientX - area.left) / area.width) * this.size[1];
    return [x, ((event.clientY - area.top) / area.height) * this.size[0]];
  }

  #start(event) {
    if (event.button !== 0) return;
    const edges = event.target.dataset.edges ?? (this.box.contains(event.target) && !this.isWhole ? "move" : "new");
    if (edges === "new" && event.pointerType === "touch") return; // a finger beside the box scrolls the page
    event.preventDefault();
    this.box.focus({ preventScroll: true, focusVisible: false });
    this.stage.setPointerCapture(event.pointerId);
    this.drag = { edges, from: this.#point(event), crop: this.crop };
  }

  #move(event) {
    if (!this.drag) return;
    const { edges, from, crop } = this.drag, [x, y] = this.#point(event);
    if (edges === "move") {
      this.set({ ...crop, top: crop.top + y - from[1], left: crop.left + x - from[0] });
      return;
    }
    if (edges === "new") {
      this.#span(from[0], from[1], x, y);
      return;
    }
    let { top, left } = crop, bottom = top + crop.height, right = left + crop.width;
    if (edges.includes("n")) top = Math.min(y, bottom - LEAST);
    if (edges.includes("s")) bottom = Math.max(y, top + LEAST);
    if (edges.includes("w")) left = Math.min(x, right - LEAST);
    if (edges.includes("e")) right = Math.max(x, left + LEAST);
    this.#span(left, top, right, bottom);
  }

  // Sets the crop from two opposite corners, clipped to the image.
  #span(x0, y0, x1, y1) {
    const [imageHeight, imageWidth] = this.size;
    const cut = (value, high) => Math.round(Math.min(Math.max(value, 0), high));
    const [left, right] = [cut(x0, imageWidth), cut(x1, imageWidth)].sort((a, b) => a - b);
    const [top, bottom] = [cut(y0, imageHeight), cut(y1, imageHeight)].sort((a, b) => a - b);
    this.set({ top, left, height: bottom - top, width: right - left });
  }

  #key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const dx = step[0] * Math.max(1, Math.round(this.size[1] / 50)), dy = step[1] * Math.max(1, Math.round(this.size[0] / 50));
    const { top, left, height, width } = this.crop;
    if (event.shiftKey) {
      this.set({ top, left, height: Math.min(height + dy, this.size[0] - top), width: Math.min(width + dx, this.size[1] - left) });
    } else {
      this.set({ ...this.crop, top: top + dy, left: left + dx });
    }
  }
}
