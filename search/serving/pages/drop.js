// Sends images that are dropped, pasted or chosen to the model, whose answers can be corrected.
import { bars, choice, element, facts, heard, percent, seconds, send, shown } from "./common.js";
import { onFiles } from "./dropped.js";

const AT_ONCE = 4;
const TRIES = 5;
const KEPT = 200;
const SMALL = 160;

const answers = document.getElementById("answers");
const waiting = [];
let running = 0;

document.title = shown(facts.model);
document.getElementById("model").textContent = shown(facts.model);
const count = facts.classes.length;
document.getElementById("about").textContent =
  `version ${shown(facts.version)}${count ? ` · ${count} classes` : ""}`;
document.getElementById("kept").textContent = !facts.corrects
  ? ""
  : facts.records
  ? "The server records its answers, some of your images, and every image that you correct."
  : "Corrections are not stored: this server was started without --record.";

function add(files) {
  for (const file of files) {
    const picture = element("img", { alt: "", src: URL.createObjectURL(file) });
    picture.onload = () => picture.classList.toggle("small", picture.naturalWidth <= SMALL);
    picture.onerror = () => {
      URL.revokeObjectURL(picture.src);
      picture.replaceWith(element("p", { className: "note" }, "no preview: your browser does not show this format"));
    };
    const said = element("div", {}, element("p", { className: "note" }, "waiting"));
    const row = element("li", {}, picture, said);
    answers.prepend(row);
    waiting.push({ file, said });
    while (answers.children.length > KEPT) {
      URL.revokeObjectURL(answers.lastChild.firstChild.src);
      answers.lastChild.remove();
    }
  }
  work();
}

async function work() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    const { file, said } = waiting.shift();
    ask(file, said).finally(() => {
      running -= 1;
      work();
    });
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function ask(file, said) {
  const headers = { "Content-Type": "application/octet-stream" };
  let told;
  for (let number = 0; number < TRIES; number += 1) {
    const began = performance.now();
    told = await heard(() => fetch("predict", { method: "POST", body: file, headers }));
    told.took = performance.now() - began;
    if (told.status !== 503) break;
    said.replaceChildren(element("p", { className: "note" }, "the server is busy; trying again"));
    await pause(1000 * (told.after || 1));
  }
  if (told.error || !told.predictions) {
    const why = told.error ?? "the response of the server is not valid";
    said.replaceChildren(
      element("h2", {}, shown(file.name)),
      element("p", { className: "bad" }, shown(why)),
    );
    return;
  }
  show(file, said, told);
}

function show(file, said, told) {
  const one = told.predictions[0];
  const isClassified = one.class !== undefined;
  const time = `${seconds(told.took_ms)} in the server, ${seconds(told.took)} in total`;
  said.replaceChildren(
    element("h2", {}, isClassified ? headline(one) : shown(file.name)),
    ...judgement(one),
    isClassified
      ? bars(Object.entries(one.probabilities))
      : predicted(one.prediction, file),
    element(
      "p",
      { className: "note" },
      `${shown(file.name)} · version ${shown(one.version)} · ${time}`,
    ),
  );
  if (isClassified) said.append(explanation(file));
  if (facts.records && isClassified) said.append(correction(file, one));
}

const REASONS = {
  unlike: "No answer: this image is unlike the images of the training",
  uncertain: "No answer: the model is not sure enough",
};

function headline(one) {
  if (one.abstained) return REASONS[one.reason];
  return `${shown(one.class)}, ${percent(one.probability)}`;
}

// Returns what a model with promises adds: the class that it would have answered, and the set.
function judgement(one) {
  const lines = [];
  if (one.abstained) {
    lines.push(`The most probable class is ${shown(one.class)}, ${percent(one.probability)}.`);
  }
  if (one.set) {
    lines.push(`Possible: ${one.set.map(shown).join(", ") || "none of the classes"}`);
  }
  return lines.map((line) => element("p", {}, line));
}

function predicted(prediction, file) {
  if (prediction?.boxes) return withBoxes(prediction, file);
  if (prediction?.image) {
    return element("img", {
      className: "enlarged",
      src: `data:image/png;base64,${prediction.image}`,
      alt: `enlarged to ${prediction.width} x ${prediction.height} pixels`,
    });
  }
  if (!prediction?.mask) return element("pre", {}, JSON.stringify(prediction, null, 1));
  const mask = element("img", {
    src: `data:image/png;base64,${prediction.mask}`,
    alt: "the predicted mask, a colour for each class",
  });
  const box = element("div", { className: "mask" });
  box.append(mask, bars(Object.entries(prediction.shares)));
  return box;
}

// Draws the boxes over the image, in whose pixels they are.
function withBoxes(prediction, file) {
  const figure = element("div", { className: "boxes" });
  const image = element("img", { src: URL.createObjectURL(file), alt: "the image with boxes" });
  image.onload = () => {
    URL.revokeObjectURL(image.src);
    figure.append(drawing(prediction.boxes, image.naturalWidth, image.naturalHeight));
  };
  image.onerror = () => image.remove();
  figure.append(image);
  const counts = Object.entries(prediction.counts).filter(([, count]) => count);
  const legend = element("p", {}, counts.length ? "" : "no objects");
  for (const [name, count] of counts) {
    const mark = element("span", { ariaHidden: "true" }, "■ ");
    mark.style.color = colourOf(name);
    legend.append(mark, `${count} ${shown(name)}  `);
  }
  const said = element("div", {});
  said.append(figure, legend);
  return said;
}

function drawing(boxes, width, height) {
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const line = Math.max(width, height) / 250;
  for (const { box: [left, top, right, bottom], class: name, score } of boxes) {
    const rectangle = svgElement("rect", {
      x: left, y: top, width: right - left, height: bottom - top,
      fill: "none", stroke: colourOf(name), "stroke-width": line,
    });
    const title = svgElement("title", {});
    title.textContent = `${shown(name)} ${percent(score)}`;
    rectangle.append(title);
    svg.append(rectangle);
  }
  return svg;
}

// The hues of consecutive classes differ most if they are the golden ratio apart.
function colourOf(name) {
  return `hsl(${(119 + facts.classes.indexOf(name) * 222.5) % 360} 90% 42%)`;
}

function svgElement(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Asks the server for a map of the pixels that support the class, with the verdict on the map.
function explanation(file) {
  const result = element("div", { role: "status" });
  const button = element("button", { type: "button", className: "plain" }, "Why?");
  button.onclick = async () => {
    button.disabled = true;
    result.replaceChildren(element("p", { className: "note" }, "computing a map"));
    const headers = { "Content-Type": "application/octet-stream" };
    const told = await heard(() => fetch("explain", { method: "POST", body: file, headers }));
    button.disabled = false;
    if (told.error) {
      result.replaceChildren(element("p", { className: "bad" }, shown(told.error)));
      return;
    }
    const picture = element("img", {
      className: "enlarged",
      src: `data:image/png;base64,${told.map}`,
      alt: `Bright where the image supports ${shown(told.class)}`,
    });
    const scores = `score ${told.score.toFixed(2)}, random maps ${told.random_score.toFixed(2)}`;
    const verdict = told.faithful
      ? `This map is faithful: ${scores}.`
      : `Do not rely on this map, it is not better than random ones: ${scores}.`;
    const text = element("p", { className: told.faithful ? "note" : "bad" }, verdict);
    result.replaceChildren(picture, text);
    button.hidden = true;
  };
  return element("div", {}, button, result);
}

function correction(file, one) {
  const said = element("p", { className: "note", role: "status" });
  const box = element("div", {});
  const open = element("button", { type: "button", className: "plain" }, "Correct the class ...");
  const others = facts.classes.filter((name) => name !== one.class);
  const choose = async (name) => {
    said.textContent = "storing the correction";
    const kept = await correct(file, one.id, name);
    said.classList.toggle("bad", Boolean(kept.error));
    said.textContent = kept.error ? shown(kept.error) : `Corrected to ${shown(name)}.`;
    if (kept.error) return;
    box.replaceChildren();
    open.textContent = "Change the correction";
    open.hidden = false;
    open.focus();
  };
  open.onclick = () => {
    const list = choice(kept(others, one.class), choose);
    box.replaceChildren(list);
    open.hidden = true;
    list.querySelector("input, button").focus();
  };
  box.onkeydown = (event) => {
    if (event.key !== "Escape") return;
    box.replaceChildren();
    open.hidden = false;
    open.focus();
  };
  return element("div", {}, open, box, said);
}

// A correction may be wrong, too. So the class that the model answered can be chosen; it comes last.
const kept = (others, answered) => [...others, answered];

// The process that receives the correction may not know the answer: another process may have given
// it, or it may have been forgotten since then. In this case, the image itself is sent.
async function correct(file, id, name) {
  const told = await send("corrections", { id, class: name });
  if (told.status !== 404) return told;
  return send("corrections", { content: await base64(file), class: name });
}

async function base64(file) {
  const address = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = reject;
    reader.readAsDataURL(file);
  });
  return address.slice(address.indexOf(",") + 1);
}

const files = document.getElementById("files");
document.getElementById("choose").onclick = () => files.click();
files.onchange = () => {
  add([...files.files]);
  files.value = "";
};
onFiles(add);
