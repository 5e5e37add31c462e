// Search of classes by name and by WordNet's kinds, with the ranking of mlimagenet_data.classes.match_classes; and the page's
// address, which names the open image and the filters: #image-12&class=dog&score=0.3.
"use strict";

// Returns a name in lower case, without accents, with single spaces for hyphens, underscores and white space.
function plain(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[-_\s]+/g, " ").trim();
}

// Returns the classes that a text names, best first; null if it is empty.
function classesNamed(text) {
  let wanted = plain(text);
  if (!wanted) return null;
  const names = data.classes.map(plain);
  if (!Object.hasOwn(data.kinds, wanted) && !names.includes(wanted)) {
    const singular = [[/ies$/, "y"], [/es$/, ""], [/s$/, ""]].map(([end, instead]) => wanted.replace(end, instead));
    wanted = singular.find((word) => Object.hasOwn(data.kinds, word)) ?? wanted;
  }
  const where = (holds) => names.flatMap((name, index) => (holds(name) ? [index] : []));
  const exact = where((name) => name === wanted), own = data.classes.indexOf(text.trim());
  if (exact.length) return own >= 0 ? [own] : exact;
  const starts = (name) => ` ${name}`.includes(` ${wanted}`);
  const ofKinds = Object.keys(data.kinds).filter(starts).sort().flatMap((name) => data.kinds[name]);
  return [...new Set([...(Object.hasOwn(data.kinds, wanted) ? data.kinds[wanted] : []), ...where(starts), ...ofKinds, ...where((name) => name.includes(wanted))])];
}

const FILTERS = { class: "filter-class", labels: "filter-count", original: "filter-verdict", score: "filter-score", sort: "sort" };

// Returns the address of an image (null for none) with the filters as they are.
function addressOf(position) {
  const given = new URLSearchParams();
  for (const [name, id] of Object.entries(FILTERS)) if (byId(id).value !== startOf(byId(id))) given.set(name, byId(id).value);
  return "#" + [position === null ? "" : `image-${position}`, given.toString()].filter(Boolean).join("&");
}

// Returns {position, changed}: the image that the address names (NaN for none), after setting the filters that it names.
function readAddress() {
  const [image, rest] = [/^#image-(\d+)/.exec(location.hash), location.hash.replace(/^#(image-\d+)?&?/, "")];
  const given = new URLSearchParams(rest);
  let changed = false;
  for (const [name, id] of Object.entries(FILTERS)) {
    const value = given.get(name) ?? startOf(byId(id));
    if (byId(id).value === value) continue;
    byId(id).value = value;
    changed = true;
  }
  return { position: Number(image?.[1] ?? NaN), changed };
}

function startOf(field) {
  return field.defaultValue ?? "";
}
