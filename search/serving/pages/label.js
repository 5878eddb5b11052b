// Shows one image after another. A key chooses the class, and the next image appears immediately.
import { bars, choice, element, facts, heard, percent, send, shown } from "./common.js";

const FEW = 5;
const AHEAD = 4;
const BEHIND = 20;
const SMALL = 160;
const POLL_MS = 5000;
const KEYS = "1234567890abcdefghijklmnopqrtvwxyz";
const PROBABLE = 9;
const REASONS = {
  disagrees: "The answers of several versions disagree",
  unlike: "Unlike the images of the training",
  uncertain: "The model is not sure",
  new: "Unlike the usual and the corrected images",
  sample: "From a random sample",
  typical: "Like many images without a label",
  rest: "",
  suspicious: "",
};

let { classes } = facts;
const at = (id) => document.getElementById(id);

const waiting = [];
const pictures = new Map();
const done = [];
let now = null;
let fetching = false;
let exhausted = false; // the server had no further image
let sending = Promise.resolve();
let changes = 0; // the number of corrections, skips and undos so far

document.title = `${facts.verb} images: ${shown(facts.subject)}`;
at("model").textContent = shown(facts.subject);
at("next").textContent = facts.end;
at("adding").hidden = !facts.can_add_classes;
at("leave").hidden = !facts.leave_out;

// There is a key for every class, and each has a button.
const every = () => classes.length <= KEYS.length;

// Returns the picture of an image; it is also called for the next images, to load them in advance.
function picture(item) {
  if (!pictures.has(item.image)) {
    const made = element("img", { alt: "The image whose class is asked for" });
    made.onload = () => made.classList.toggle("small", made.naturalWidth <= SMALL);
    made.src = `images/${item.image}`;
    pictures.set(item.image, made);
  }
  return pictures.get(item.image);
}

function tell(told) {
  if (told.error) {
    at("problem").textContent = shown(told.error);
    at("problem").hidden = false;
    return false;
  }
  const all = told.corrected + told.left;
  at("progress").textContent =
    `${told.corrected} ${facts.participle}${told.here ? `, ${told.here} of them now` : ""} · ${told.left} left`;
  at("done").max = all || 1;
  at("done").value = told.corrected;
  return true;
}

async function fill() {
  if (fetching || waiting.length > FEW) return;
  fetching = true;
  // The server would return images again whose corrections it has not received yet.
  await sending;
  const known = [...waiting, ...(now ? [now] : [])].map((item) => item.image);
  const before = changes;
  const told = await heard(() => fetch(`next?without=${known.join(",")}`));
  fetching = false;
  // If something has changed since, the counts of this answer are older than those that are shown.
  if ((told.error || before === changes) && !tell(told)) return;
  if (told.classes.length > classes.length) rename(told.classes); // added on another page
  // These images were corrected while the request was running, or are waiting already.
  const here = [...waiting, ...done.filter((one) => one.label !== null).map((one) => one.item)];
  const taken = new Set([now, ...here].map((item) => item?.image));
  waiting.push(...told.items.filter((item) => !taken.has(item.image)));
  waiting.slice(0, AHEAD).forEach(picture);
  exhausted = !waiting.length;
  // If the end is shown already and no image has arrived, `setInterval` calls this function again.
  if (!now && (waiting.length || at("end").hidden)) show();
}

const best = (item) =>
  item.probabilities
    .map((share, number) => [classes[number], share])
    .sort((one, other) => other[1] - one[1]);

function show() {
  now = waiting.shift() ?? null;
  at("one").hidden = !now;
  at("end").hidden = Boolean(now) || !exhausted;
  for (const id of ["undo", "back"]) at(id).disabled = !done.length;
  fill();
  if (!now) return;
  waiting.slice(0, AHEAD).forEach(picture);
  at("picture").replaceChildren(picture(now));
  const order = best(now);
  now.predicted = now.suggested || (order.length ? order[0][0] : null);
  at("why").textContent = reason(now);
  at("said").replaceChildren(bars(order));
  at("right").hidden = now.predicted === null;
  at("predicted").textContent = now.predicted === null ? "" : `It is ${shown(now.predicted)}`;
  at("confirm").hidden = !now.label;
  at("confirmed").textContent = now.label ? `It is ${shown(now.label)}, as labelled` : "";
  if (!every()) offer(order.slice(0, PROBABLE).map(([name]) => name));
  window.scrollTo(0, 0);
}

function reason(item) {
  const versions = Object.entries(item.versions);
  const said = versions.map(([version, name]) => `version ${shown(version)}: ${shown(name)}`);
  const label = item.label ? [`Labelled ${shown(item.label)}`] : [];
  if (item.chance) label.push(`wrong with a probability of ${percent(item.chance)}`);
  return [REASONS[item.why], ...label, ...(versions.length > 1 ? said : [])].filter(Boolean).join(" · ");
}

// Shows these classes, each with a key. If they are not all classes, a field finds the others.
let keys = new Map();
function offer(names) {
  keys = keyed(names);
  const key = (name) => keys.get(name) ?? "";
  const first = choice(names, say, { key, few: names.length });
  if (every()) {
    at("classes").replaceChildren(first);
    return;
  }
  const others = choice(classes, say, { key, listed: false });
  const note = element("p", { className: "note" }, element("kbd", {}, "/"), "another class");
  at("classes").replaceChildren(first, note, others);
}

// Maps classes to keys. A class whose name is a key gets this key: 7 is for the class "7", not for
// the seventh class. If there are the classes "C" and "c", the key C is for "c".
function keyed(names) {
  const found = new Map();
  const taken = new Set();
  for (const name of [...names.filter((one) => KEYS.includes(one)), ...names]) {
    const key = name.toLowerCase();
    if (name.length !== 1 || !KEYS.includes(key) || taken.has(key) || found.has(name)) continue;
    found.set(name, key);
    taken.add(key);
  }
  const free = [...KEYS].filter((key) => !taken.has(key));
  for (const name of names) if (!found.has(name)) found.set(name, free.shift());
  return found;
}

function next(action, address, told) {
  const item = now;
  done.push({ ...action, item });
  if (done.length > BEHIND) pictures.delete(done[done.length - BEHIND - 1].item.image);
  at("problem").hidden = true;
  document.activeElement?.blur();
  changes += 1;
  sending = sending.then(async () => {
    const kept = await send(address, told);
    if (tell(kept)) return;
    // The change was not stored, so the image is shown again, if the server still has it.
    done.splice(done.findIndex((one) => one.item === item), 1);
    if (kept.status !== 404) waiting.unshift(item);
    if (!now) show();
  });
  show();
}

function say(name) {
  if (now) next({ label: name }, "labels", { image: now.image, class: name });
}

function skip() {
  if (now) next({ label: null }, "skips", { image: now.image });
}

function undo() {
  const last = done.pop();
  if (!last) return;
  if (now) waiting.unshift(now);
  waiting.unshift(last.item);
  if (last.label !== null) {
    changes += 1;
    sending = sending.then(async () => {
      tell(await send(`labels/${last.item.image}`, undefined, "DELETE"));
    });
  }
  show();
}

// Adds a class; the image that is shown keeps waiting for its class.
async function add(event) {
  event.preventDefault();
  const told = await send("classes", { class: at("name").value });
  at("problem").hidden = !told.error;
  at("problem").textContent = told.error ? shown(told.error) : "";
  if (told.error) return;
  at("name").value = "";
  at("name").blur();
  rename(told.classes);
}

// Takes over the names of the classes, of which there are more than before.
function rename(names) {
  classes = names;
  if (every()) offer(classes);
  else if (now) offer(best(now).slice(0, PROBABLE).map(([name]) => name));
}

const confirm = () => now && now.label && say(now.label);
const leave = () => now && facts.leave_out && say(facts.leave_out);
const right = () => now && now.predicted !== null && say(now.predicted);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (event.target instanceof HTMLInputElement) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const key = event.key.toLowerCase();
  if (event.repeat) {
    // While a key is held down, it would correct images that nobody has seen.
    if (key === "enter") event.preventDefault();
    return;
  }
  const named = [...keys].find(([, own]) => own === key);
  const field = document.querySelector("input[type=search]");
  const onButton = event.target instanceof HTMLButtonElement;
  if (key === "enter" && !onButton) right();
  else if (key === "=" && now?.label) confirm();
  else if (key === "-" && facts.leave_out) leave();
  else if (key === "s") skip();
  else if (key === "u") undo();
  else if (key === "/" && field) field.focus();
  else if (key === "+" && facts.can_add_classes) at("name").focus();
  else if (named) say(named[0]);
  else return;
  event.preventDefault();
});
at("right").onclick = right;
at("confirm").onclick = confirm;
at("leave").onclick = leave;
at("skip").onclick = skip;
at("undo").onclick = undo;
at("back").onclick = undo;
at("adding").onsubmit = add;
setInterval(() => !now && fill(), POLL_MS);

if (every()) offer(classes);
fill();
