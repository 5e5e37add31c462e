// The dialog for one image: its regions and labels, and which labels remain in a crop.
"use strict";

const WORDS = { [PRESENT]: "present", [UNDECIDED]: "undecided", [ABSENT]: "absent" };

// Creates an element with a class and a text. Annotation texts enter the page here, never as HTML.
function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== "") element.textContent = text;
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

function percent(share) {
  return `${(100 * share).toFixed(1).replace(/\.0$/, "")}%`;
}

class Detail {
  // `data` is the page's data, `regionsOf(position)` promises an image's regions, `go(step)` opens another image.
  constructor(data, regionsOf, go) {
    Object.assign(this, { data, regionsOf, go, image: null, regions: [], shown: new Set() });
    this.dialog = byId("detail");
    this.masks = new MaskLayer(byId("masks"));
    const sliders = { left: byId("crop-left"), top: byId("crop-top"), width: byId("crop-width"), height: byId("crop-height") };
    this.crop = new CropBox(byId("stage"), byId("crop"), sliders, () => this.#update());
    byId("close").addEventListener("click", () => this.dialog.close());
    byId("previous").addEventListener("click", () => go(-1));
    byId("next").addEventListener("click", () => go(1));
    byId("random-crop").addEventListener("click", () => this.crop.set(randomCrop(this.image.size)));
    byId("whole-image").addEventListener("click", () => this.crop.whole());
    byId("all-regions").addEventListener("change", (event) => this.#showAll(event.target.checked));
    document.addEventListener("keydown", (event) => this.isOpen && this.#key(event));
    byId("rules").textContent = this.#rules();
  }

  get isOpen() {
    return this.dialog.open;
  }

  // Shows an image; `place` is its position among the filtered images ("3 of 40").
  async open(position, place, [hasPrevious, hasNext]) {
    const image = this.data.images[position];
    Object.assign(this, { image, position });
    byId("detail-title").textContent = image.id;
    byId("detail-original").textContent = image.original === null ? "" : `original label: ${this.data.classes[image.original]}`;
    byId("detail-verdict").textContent = `(${this.data.verdicts[image.verdict]})`;
    byId("detail-place").textContent = place;
    byId("previous").disabled = !hasPrevious;
    byId("next").disabled = !hasNext;
    this.#photograph(image);
    this.#load(image, [], true); // clears the previous image
    if (!this.isOpen) this.dialog.showModal();
    let regions = [], problem = image.problem;
    try {
      regions = (await this.regionsOf(position)).map(decodeRegion);
    } catch (error) {
      problem = `Cannot show the regions: ${error.message}`;
    }
    if (this.image !== image) return; // another image was opened meanwhile
    byId("problem").hidden = !problem;
    byId("problem").textContent = problem ?? "";
    this.#load(image, regions, false);
  }

  #load(image, regions, isBusy) {
    this.regions = regions;
    this.dialog.setAttribute("aria-busy", isBusy);
    byId("panel").hidden = isBusy;
    this.masks.load(image.size, regions);
    this.shown = this.#clearest(image);
    this.#listRegions();
    this.crop.load(image.size);
    this.#redraw();
  }

  // Returns the positions of the regions to show first: the best region of each of the image's classes.
  #clearest(image) {
    const scoreOf = (k, index) => this.regions[k].topk.find(([other]) => other === index)[1];
    const best = image.labels.map(([index]) => {
      const found = regionsFor(this.regions, index, image.original, this.data.policy);
      return found.sort((a, b) => scoreOf(b, index) - scoreOf(a, index))[0];
    });
    return new Set(best.filter((k) => k !== undefined));
  }

  #photograph(image) {
    const ratio = Math.min(Math.max(image.size[1] / image.size[0], 1 / 8), 8);
    byId("stage").style.setProperty("--ratio", ratio);
    const photograph = byId("photograph");
    photograph.classList.toggle("none", !this.data.about.photographs || image.problem !== null);
    photograph.src = image.thumbnail;
    photograph.alt = `Photograph ${image.id}`;
  }

  #rules() {
    const p = this.data.policy;
    const words = [
      `Present: at least ${percent(p.visibility)} of a region of the class is in view, or it fills at least ${percent(p.coverage)} of the crop.`,
      `Absent: at most ${percent(p.absent_visibility)} of each region is in view, and it fills at most ${percent(p.absent_coverage)} of the crop.`,
      `Undecided: anything else; training treats it as absent or ignores it.`,
      p.min_score > 0
        ? `A region belongs to a class if it scores at least ${p.min_score} for it, or is its best region.`
        : `A region belongs to every class that it is scored for.`,
    ];
    if (p.label_score > 0) words.push(`Labels that score below ${p.label_score} do not count.`);
    if (p.unlocated !== "spread") words.push(`Classes without a region: ${p.unlocated}.`);
    const originals = {
      unless_gone: `The original label counts as present unless it is absent, by the regions that score it at least ${percent(p.main_share)} as highly as its best one.`,
      always: "The original label is always present.",
      if_located: "The original label counts only if a region shows it.",
    };
    if (originals[p.original]) words.push(originals[p.original]);
    if (p.empty !== "none") words.push("A crop left without labels gets the original label.");
    return words.join(" ");
  }

  // Lists the regions, best scores first.
  #listRegions() {
    this.rows = this.regions.map((region, k) => this.#row(region, k));
    const order = [...this.regions.keys()].sort((a, b) => this.regions[b].score - this.regions[a].score);
    byId("regions").replaceChildren(...order.map((k) => this.rows[k].item));
    if (!order.length) byId("regions").append(make("li", "soft", "none"));
    this.#checkAll();
  }

  #row(region, k) {
    const item = make("li"), label = make("label", "check"), box = make("input"), text = make("div", "grow"), head = make("div", "row");
    const number = make("span", "number", String(k + 1)), share = make("div", "why"), colour = regionColour(k);
    [number.style.background, number.style.color] = [`rgb(${colour})`, textOn(colour)];
    box.type = "checkbox";
    box.checked = this.shown.has(k);
    box.addEventListener("change", () => this.#toggle(k, box.checked));
    head.append(make("span", "name", this.data.classes[region.label]), make("span", "score", region.score.toFixed(2)));
    text.append(head, share);
    const others = region.topk.filter(([index, score]) => index !== region.label && score >= 0.05);
    const names = others.map(([index, score]) => `${this.data.classes[index]} ${score.toFixed(2)}`);
    if (names.length) text.append(make("div", "why", `or ${names.join(", ")}`));
    for (const name of ["mouseenter", "focusin"]) label.addEventListener(name, () => this.#redraw(k));
    for (const name of ["mouseleave", "focusout"]) label.addEventListener(name, () => this.#redraw());
    label.append(box, number, text);
    item.append(label);
    return { item, box, share };
  }

  #toggle(k, isShown) {
    if (isShown) this.shown.add(k);
    else this.shown.delete(k);
    this.#checkAll();
    this.#redraw(isShown ? k : null);
  }

  #showAll(isShown) {
    this.shown = new Set(isShown ? this.regions.keys() : []);
    this.rows.forEach(({ box }) => (box.checked = isShown));
    this.#checkAll();
    this.#redraw();
  }

  #checkAll() {
    const box = byId("all-regions");
    box.checked = this.regions.length > 0 && this.shown.size === this.regions.length;
    box.indeterminate = this.shown.size > 0 && !box.checked;
  }

  #redraw(chosen = null) {
    this.masks.draw(chosen === null ? this.shown : new Set([...this.shown, chosen]), chosen);
  }

  // Updates the labels and shares for the crop.
  #update() {
    const { top, left, height, width } = this.crop.crop, [imageHeight, imageWidth] = this.image.size;
    const found = labelCrop(this.image, this.regions, this.data.policy, this.crop.crop), whole = this.crop.isWhole;
    const share = percent((width * height) / (imageWidth * imageHeight));
    byId("crop-size").textContent = `${width} x ${height} pixels at ${left}, ${top}: ${share} of the image`;
    byId("crop-where").textContent = whole ? "of the whole image" : "in this crop";
    found.shares.forEach((shares, k) => (this.rows[k].share.textContent = this.#inView(shares)));
    byId("labels").replaceChildren(...[...found.states].map(([index, state]) => this.#label(index, state, found)));
    const states = [...found.states.values()], having = (state) => states.filter((other) => other === state).length;
    const undecided = having(UNDECIDED) ? `, ${having(UNDECIDED)} undecided` : "";
    const text = `${having(PRESENT)} of ${states.length} labels ${whole ? "present" : "remain"}${undecided}`;
    if (byId("left").textContent !== text) byId("left").textContent = text; // screen readers announce changes
  }

  #inView({ visibility, coverage }) {
    return `${percent(visibility)} in view, ${percent(coverage)} of the ${this.crop.isWhole ? "image" : "crop"}`;
  }

  #label(index, state, found) {
    const item = make("li", WORDS[state]), row = make("div", "row");
    const score = this.image.labels.find(([other]) => other === index)?.[1];
    row.append(make("span", "name", this.data.classes[index]));
    if (index === this.image.original) row.append(make("span", "tag", "original"));
    if (score !== undefined) row.append(make("span", "score", score.toFixed(2)));
    row.append(make("span", "state", WORDS[state]));
    const k = this.#shownBest(index, found);
    const why = k === null ? `no region; ${percent(found.view.visible)} of the image in view` : `region ${k + 1}: ${this.#inView(found.shares[k])}`;
    item.append(row, make("div", "why", why));
    item.addEventListener("mouseenter", () => this.#redraw(k));
    item.addEventListener("mouseleave", () => this.#redraw());
    item.dataset.index = index;
    return item;
  }

  // Returns the region of a class that counts most in the crop; null for a class without a region.
  #shownBest(index, { where, shares, regionStates }) {
    const rank = (k) => [PRESENT, UNDECIDED, ABSENT].indexOf(regionStates[k]);
    const order = (a, b) => rank(a) - rank(b) || shares[b].visibility - shares[a].visibility;
    return where.has(index) ? [...where.get(index)].sort(order)[0] : null;
  }

  #key(event) {
    const isField = event.target.matches("input[type=range], select");
    if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey || isField) return;
    const act = {
      ArrowLeft: () => this.go(-1),
      ArrowRight: () => this.go(1),
      r: () => this.crop.set(randomCrop(this.image.size)),
      w: () => this.crop.whole(),
      m: () => this.#showAll(this.shown.size < this.regions.length),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }
}
