"use strict";
const form = document.getElementById("filters");
const tiles = [...document.querySelectorAll(".tile")];
const count = document.getElementById("count");
const dialog = document.getElementById("zoom");
const stage = dialog.querySelector(".stage");
const legend = document.getElementById("legend"); // null where no label has a name
const LARGEST_ZOOM = 16;
let binCases = null; // numbers of the cases of the chosen bar
let shown = null; // tile in the dialog
let zoom = 1;

function isShown(tile, wanted) {
  const has = (key) => tile.dataset[key].split(" ").includes(wanted[key]);
  const label = wanted.labels && tile.dataset.labels.split(" ").includes(wanted.labels.slice(1));
  return (!wanted.severity || has("severity")) && (!wanted.kinds || has("kinds")) && (!wanted.split || has("split"))
    && (!wanted.labels || label === (wanted.labels[0] === "+"))
    && (!wanted.name || tile.querySelector("h3").textContent.toLowerCase().includes(wanted.name.toLowerCase()))
    && (binCases === null || binCases.has(tile.id.slice(5)));
}

function applyFilters() {
  const wanted = Object.fromEntries(new FormData(form));
  let number = 0;
  for (const tile of tiles) {
    tile.hidden = !isShown(tile, wanted);
    number += tile.hidden ? 0 : 1;
  }
  count.textContent = `${number} of ${tiles.length}`;
  document.body.classList.toggle("plain", !form.elements.outlines.checked);
  document.body.classList.toggle("filled", form.elements.filled.checked);
}

function chooseBin(bin) {
  const isChosen = bin !== null && bin.getAttribute("aria-pressed") !== "true";
  for (const other of document.querySelectorAll(".bin")) other.setAttribute("aria-pressed", "false");
  binCases = isChosen ? new Set(bin.dataset.cases.split(" ")) : null;
  if (isChosen) bin.setAttribute("aria-pressed", "true");
}

// a message may lead to a case that the filters hide
function reveal() {
  const target = /^#case-\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
  if (!target) return;
  if (target.hidden) {
    form.reset();
    applyFilters();
  }
  target.scrollIntoView({ block: "center" });
  target.querySelector(".view").focus({ preventScroll: true });
}

form.addEventListener("input", applyFilters);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => { chooseBin(null); setTimeout(applyFilters); }); // the fields change after the event
for (const bin of document.querySelectorAll(".bin")) {
  const choose = () => { chooseBin(bin); applyFilters(); };
  bin.addEventListener("click", choose);
  bin.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose();
  });
}
addEventListener("hashchange", () => setTimeout(reveal));
document.addEventListener("click", (event) => { // the same message again
  const link = event.target.closest('a[href^="#case-"]');
  if (link && link.hash === location.hash) reveal();
});

function fitSize(drawing) {
  const [width, height] = drawing.style.aspectRatio.split("/").map(Number);
  const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height);
  return [width * scale, height * scale];
}

function setZoom(value, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const drawing = stage.firstElementChild;
  if (!drawing) return;
  const before = drawing.getBoundingClientRect();
  const origin = stage.getBoundingClientRect();
  const across = (origin.left + x - before.left) / before.width;
  const down = (origin.top + y - before.top) / before.height;
  zoom = Math.min(Math.max(value, 1), LARGEST_ZOOM);
  const [width, height] = fitSize(drawing);
  drawing.style.width = `${width * zoom}px`;
  drawing.style.height = `${height * zoom}px`;
  drawing.style.margin = "auto";
  const after = drawing.getBoundingClientRect();
  stage.scrollLeft += after.left + across * after.width - origin.left - x;
  stage.scrollTop += after.top + down * after.height - origin.top - y;
}

function show(tile) {
  const drawing = tile.querySelector(".drawing");
  if (!drawing) return;
  shown = tile;
  dialog.querySelector("h2").textContent = tile.querySelector("h3").textContent;
  const about = dialog.querySelector(".about");
  const told = [...tile.children].filter((part) => part.matches("p, ul"));
  if (legend && drawing.querySelector("svg")) told.unshift(legend);
  about.replaceChildren(...told.map((part) => part.cloneNode(true)));
  for (const part of about.querySelectorAll("[id]")) part.removeAttribute("id");
  const copy = drawing.cloneNode(true);
  for (const image of copy.querySelectorAll("img")) image.loading = "eager";
  stage.replaceChildren(copy);
  if (!dialog.open) dialog.showModal();
  setZoom(1);
}

function step(by) {
  const visible = tiles.filter((tile) => !tile.hidden && tile.querySelector(".drawing"));
  if (visible.length) show(visible[(visible.indexOf(shown) + by + visible.length) % visible.length]);
}

const ACTIONS = {
  previous: () => step(-1),
  next: () => step(1),
  in: () => setZoom(zoom * 1.5),
  out: () => setZoom(zoom / 1.5),
  fit: () => setZoom(1),
  close: () => dialog.close(),
};
const KEYS = { ArrowLeft: "previous", ArrowRight: "next", "+": "in", "=": "in", "-": "out", 0: "fit" };

for (const tile of tiles) tile.querySelector(".view").addEventListener("click", () => show(tile));
dialog.addEventListener("click", (event) => {
  const action = event.target.closest("[data-do]");
  if (action) ACTIONS[action.dataset.do]();
});
dialog.addEventListener("keydown", (event) => {
  if (!KEYS[event.key]) return;
  event.preventDefault();
  ACTIONS[KEYS[event.key]]();
});
dialog.addEventListener("close", () => { if (shown) shown.querySelector(".view").focus(); });
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const origin = stage.getBoundingClientRect();
  setZoom(zoom * (event.deltaY < 0 ? 1.2 : 1 / 1.2), event.clientX - origin.left, event.clientY - origin.top);
}, { passive: false });
stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); });
stage.addEventListener("pointermove", (event) => {
  if (!stage.hasPointerCapture(event.pointerId)) return;
  stage.scrollLeft -= event.movementX;
  stage.scrollTop -= event.movementY;
});
addEventListener("resize", () => { if (dialog.open) setZoom(zoom); });
applyFilters();
reveal();
