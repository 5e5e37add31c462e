// The grid of images, its filters, and the open image, which the address names (#image-12).
"use strict";

const data = JSON.parse(byId("data").textContent);
const BATCH = 120; // cards to add at a time
const chunks = new Map(); // scripts of regions in a folder: number -> {promise, resolve}
let fitting = []; // positions of the images that match the filters

// Called by the scripts of regions in a folder.
function receiveRegions(number, regions) {
  chunks.get(number)?.resolve(regions);
}

async function regionsOf(position) {
  if (data.regions) return data.regions[position];
  const number = Math.floor(position / data.chunk);
  if (!chunks.has(number)) loadChunk(number);
  return (await chunks.get(number).promise)[position % data.chunk];
}

function loadChunk(number) {
  const script = make("script"), chunk = {};
  chunk.promise = new Promise((resolve, reject) => {
    chunk.resolve = resolve;
    script.onerror = () => {
      chunks.delete(number);
      reject(new Error(`${script.getAttribute("src")} failed to load`));
    };
  });
  chunks.set(number, chunk);
  script.src = `regions/${String(number).padStart(6, "0")}.js`;
  document.head.append(script);
}

function card(position) {
  const image = data.images[position], item = make("li"), button = make("button", "card"), picture = make("img"), text = make("div", "text");
  picture.src = image.thumbnail;
  picture.alt = "";
  picture.loading = "lazy";
  picture.decoding = "async";
  for (const [index, score] of image.labels.slice(0, 3)) {
    const line = make("div", "label");
    line.append(make("span", "", data.classes[index]), make("span", "score", score.toFixed(2)));
    text.append(line);
  }
  if (!image.labels.length) text.append(make("div", "label", "no labels"));
  if (image.labels.length > 3) text.append(make("div", "label", `and ${image.labels.length - 3} more`));
  if (image.original !== null && image.verdict !== "agrees") {
    const seen = image.verdict === "weaker" ? "" : ", not seen";
    const tag = make("span", `tag ${image.verdict}`, `original: ${data.classes[image.original]}${seen}`);
    tag.title = `original label: ${data.classes[image.original]}; ${data.verdicts[image.verdict]}`;
    text.append(tag);
  }
  button.type = "button";
  button.title = image.id;
  button.dataset.position = position;
  button.tabIndex = -1;
  const frame = make("div", "frame");
  frame.append(picture);
  button.append(frame, text);
  button.addEventListener("click", () => (location.hash = addressOf(position)));
  item.append(button);
  if (byId("grid-masks").checked) drawMasks(button, position);
  return item;
}

// Draws an image's regions over its thumbnail.
async function drawMasks(button, position) {
  const regions = (await regionsOf(position)).map(decodeRegion), canvas = make("canvas"), [height, width] = data.images[position].size;
  const scale = 300 / Math.max(height, width);
  [canvas.width, canvas.height] = [Math.max(1, Math.round(scale * width)), Math.max(1, Math.round(scale * height))];
  for (const k of [...regions.keys()].sort((a, b) => regions[b].cells - regions[a].cells)) {
    canvas.getContext("2d").drawImage(paintRegion(regions[k], regionColour(k), canvas.width, canvas.height).canvas, 0, 0);
  }
  if (byId("grid-masks").checked && !button.querySelector("canvas")) button.querySelector(".frame").append(canvas);
}

function toggleMasks() {
  for (const button of byId("grid").querySelectorAll(".card")) {
    if (byId("grid-masks").checked) drawMasks(button, Number(button.dataset.position));
    else button.querySelector("canvas")?.remove();
  }
}

function showMore() {
  const grid = byId("grid"), start = grid.children.length;
  grid.append(...fitting.slice(start, start + BATCH).map(card));
  byId("more").hidden = grid.children.length >= fitting.length;
}

// Returns whether an image matches the filters: `classes` (a Set, null for any), `count` of labels, `verdict` ("" for any),
// and the least `score` of a label that counts.
function fits(image, { classes, count, verdict, score }) {
  const labels = image.labels.filter((label) => label[1] >= score), isOriginal = classes?.has(image.original) && !score;
  if (classes && !isOriginal && !labels.some(([index]) => classes.has(index))) return false;
  if (score && !labels.length) return false;
  if (count !== "" && Math.min(labels.length, 4) !== Number(count)) return false;
  if (verdict === "differs") return ["weaker", "replaced", "unseen"].includes(image.verdict);
  return verdict === "" || image.verdict === verdict;
}

const ORDERS = { // a number or text of an image, by which images are sorted; the least first
  name: (image) => image.id,
  best: (image) => -(image.labels[0]?.[1] ?? -1),
  worst: (image) => image.labels.at(-1)?.[1] ?? 2,
  most: (image) => -image.labels.length,
};

function sorted(positions) {
  const key = ORDERS[byId("sort").value];
  if (!key) return positions;
  const keys = new Map(positions.map((position) => [position, key(data.images[position])]));
  return positions.sort((a, b) => (keys.get(a) < keys.get(b) ? -1 : keys.get(a) > keys.get(b) ? 1 : a - b));
}

function applyFilters() {
  const named = classesNamed(byId("filter-class").value), score = Number(byId("filter-score").value);
  const filters = { classes: named && new Set(named), count: byId("filter-count").value, verdict: byId("filter-verdict").value, score };
  byId("score-from").textContent = score.toFixed(2);
  fitting = sorted([...data.images.keys()].filter((position) => fits(data.images[position], filters)));
  byId("grid").replaceChildren();
  showMore();
  focusable(byId("grid").querySelector(".card"));
  byId("count").textContent = fitting.length === data.images.length ? `${fitting.length} images` : `${fitting.length} of ${data.images.length} images`;
  byId("nothing").hidden = fitting.length > 0;
}

// Makes a card the only one that Tab reaches.
function focusable(button) {
  for (const other of byId("grid").querySelectorAll('.card[tabindex="0"]')) other.tabIndex = -1;
  if (button) button.tabIndex = 0;
}

function moveInGrid(event) {
  const cards = [...byId("grid").querySelectorAll(".card")], here = cards.indexOf(document.activeElement);
  const inRow = cards.filter((button) => button.offsetTop === cards[0].offsetTop).length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -inRow, ArrowDown: inRow, Home: -here, End: cards.length - 1 - here }[event.key];
  if (here < 0 || step === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  cards[here + step]?.focus();
}

// Opens the image that the address names, or closes the dialog.
function followAddress() {
  const { position, changed } = readAddress();
  if (changed) applyFilters();
  if (!(position < data.images.length)) {
    detail.dialog.close();
    return;
  }
  const place = fitting.indexOf(position);
  const words = place < 0 ? "" : `${place + 1} of ${fitting.length}`;
  detail.open(position, words, [place > 0, place >= 0 && place < fitting.length - 1]);
}

function go(step) {
  const position = detail.position, next = fitting[fitting.indexOf(position) + step];
  if (fitting.includes(position) && next !== undefined) {
    history.replaceState(null, "", addressOf(next));
    followAddress();
  }
}

// Focuses the card of the image that was open.
function leaveDetail() {
  if (location.hash.startsWith("#image-")) history.replaceState(null, "", addressOf(null));
  const grid = byId("grid"), place = fitting.indexOf(detail.position);
  while (grid.children.length <= place) showMore();
  grid.children[place]?.firstChild.focus();
}

function fillPage() {
  const { title, split, total } = data.about, shown = data.images.length;
  byId("title").textContent = document.title = title;
  byId("about").textContent = `${shown === total ? shown : `${shown} of ${total}`} images of split ${split}, with their regions and labels. Open an image to crop it.`;
  const counts = new Map();
  for (const image of data.images) for (const [index] of image.labels) counts.set(index, (counts.get(index) ?? 0) + 1);
  byId("class-names").append(...[...counts.keys()].map((index) => data.classes[index]).sort().map((name) => new Option(name, name)));
  listClasses(counts);
  const select = byId("filter-verdict"), having = (verdict) => data.images.filter((image) => fits(image, { classes: null, count: "", verdict, score: 0 })).length;
  for (const [name, text] of [["differs", "the original label does not score best"], ...Object.entries(data.verdicts)]) {
    const count = having(name);
    if (!count) continue;
    const option = new Option(`${name} (${count})`, name);
    option.title = text;
    select.append(option);
  }
}

// Lists the classes with their numbers of images, most frequent first; a click shows these images.
function listClasses(counts) {
  const order = [...counts].sort((a, b) => b[1] - a[1] || data.classes[a[0]].localeCompare(data.classes[b[0]]));
  byId("classes").append(...order.map(([index, count]) => {
    const item = make("li"), button = make("button", "plain", `${data.classes[index]} `);
    button.type = "button";
    button.append(make("span", "score", count));
    button.addEventListener("click", () => {
      byId("filter-class").value = data.classes[index];
      changeFilters();
    });
    item.append(button);
    return item;
  }));
  byId("classes-title").textContent = `${order.length} classes`;
}

function changeFilters() {
  applyFilters();
  history.replaceState(null, "", addressOf(null));
}

const detail = new Detail(data, regionsOf, go);
fillPage();
applyFilters();
byId("filters").addEventListener("input", changeFilters);
byId("grid-masks").addEventListener("change", toggleMasks);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", () => setTimeout(changeFilters));
byId("grid").addEventListener("keydown", moveInGrid);
byId("grid").addEventListener("focusin", (event) => focusable(event.target.closest(".card")));
byId("more").addEventListener("click", showMore);
new IntersectionObserver((seen) => seen[0].isIntersecting && showMore(), { rootMargin: "600px" }).observe(byId("more"));
detail.dialog.addEventListener("close", leaveDetail);
window.addEventListener("hashchange", followAddress);
followAddress();
