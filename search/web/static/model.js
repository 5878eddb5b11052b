// Sends images that are dropped, pasted or chosen to the model, one at a time; each prediction
// appears next to its image. Without JavaScript, the form loads a page with the predictions.
import { onFiles } from "./dropped.js";

const form = document.getElementById("ask");
const field = document.getElementById("image");
const answers = document.getElementById("answers");
const waiting = [];
let isAsking = false;

document.getElementById("hint").hidden = false;

function add(files) {
  for (const file of files) {
    const item = document.createElement("li");
    item.className = "card";
    item.textContent = "waiting";
    answers.prepend(item);
    waiting.push({ file, item });
  }
  work();
}

async function work() {
  if (isAsking) return;
  isAsking = true;
  while (waiting.length) {
    const { file, item } = waiting.shift();
    item.textContent = "the model is predicting it";
    show(item, file, await asked(file));
  }
  isAsking = false;
}

// The response is a part of a page, in which the server has escaped all text.
async function asked(file) {
  const body = new FormData(form);
  body.set("image", file);
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      body,
      headers: { "HX-Request": "true" },
    });
    return await answer.text();
  } catch {
    return "";
  }
}

function show(item, file, text) {
  const made = document.createElement("template");
  made.innerHTML = text;
  const said = made.content.querySelector("li") ?? made.content;
  const picture = document.createElement("img");
  picture.alt = "";
  picture.src = URL.createObjectURL(file);
  picture.onerror = () => {
    URL.revokeObjectURL(picture.src);
    picture.replaceWith("no preview: your browser does not show this format");
  };
  picture.onload = () => URL.revokeObjectURL(picture.src);
  item.replaceChildren(picture, ...said.childNodes);
  if (!text) item.append("The server does not answer.");
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  add([...field.files]);
  form.reset();
});
onFiles(add);
