// Functions that the pages share: for elements, for bars of probabilities, and for choosing a class.

export const facts = JSON.parse(document.getElementById("facts").textContent);

const FEW = 12;
const LISTED = 30;

// Creates an element. `given` has its attributes, or properties such as onclick; `inside` its content.
export function element(name, given = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (key in made && !key.startsWith("aria")) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...inside);
  return made;
}

// Replaces control characters by escape sequences, since a name may contain a line break.
export const shown = (name) =>
  name.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (one) => {
    if (one === "\n") return "\\n";
    return "\\u" + one.codePointAt(0).toString(16).padStart(4, "0");
  });

// Formats a share with a decimal place if it is near 0 or 1: 99.8 % next to 0.2 %, not 100 %.
export const percent = (share) => `${(100 * share).toFixed(share < 0.0995 || share >= 0.9945 ? 1 : 0)} %`;

export const seconds = (ms) =>
  ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(1)} s`;

// Creates bars for the `count` most probable classes. `pairs` are [class, probability].
export function bars(pairs, count = 5) {
  const first = [...pairs].sort((one, other) => other[1] - one[1]).slice(0, count);
  const rows = first.flatMap(([name, share], place) => [
    element("span", { className: place ? "" : "first" }, shown(name)),
    element("progress", { max: 1, value: share, "aria-hidden": "true" }),
    element("span", {}, percent(share)),
  ]);
  return element("div", { className: "bars" }, ...rows);
}

// Creates a button for each class if there are few classes, otherwise a field that finds classes.
// `key(name)` is the keyboard key of a class. If `listed` is false, the field shows no classes until
// something is typed.
export function choice(classes, choose, { key = () => "", few = FEW, listed = true } = {}) {
  const list = element("ul", { className: "choices" });
  const show = (names) => {
    const buttons = names.map((name) => {
      const label = key(name).toUpperCase();
      const inside = label ? [element("kbd", {}, label), shown(name)] : [shown(name)];
      const button = element("button", { type: "button", onclick: () => choose(name) }, ...inside);
      button.dataset.name = name;
      return element("li", {}, button);
    });
    list.replaceChildren(...buttons);
  };
  if (classes.length <= few) {
    show(classes);
    return element("div", {}, list);
  }
  const field = element("input", {
    type: "search",
    placeholder: `Find one of ${classes.length} classes`,
    "aria-label": "Find a class",
  });
  const lower = classes.map((name) => name.toLowerCase());
  let found = [];
  let place = 0;
  const mark = () => {
    for (const [number, item] of [...list.children].entries()) {
      item.firstChild.classList.toggle("chosen", number === place);
    }
  };
  const find = () => {
    const words = field.value.toLowerCase();
    const starts = classes.filter((_, number) => lower[number].startsWith(words));
    const others = classes.filter(
      (_, number) => lower[number].includes(words) && !lower[number].startsWith(words),
    );
    found = words || listed ? [...starts, ...others].slice(0, LISTED) : [];
    place = 0;
    show(found);
    mark();
  };
  field.oninput = find;
  field.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (event.key === "Enter" && found.length) {
      event.preventDefault();
      choose(found[place]);
    } else if (step && (event.key.length > 7 || field.selectionStart === field.value.length)) {
      if (!found.length) return;
      event.preventDefault();
      place = (place + step + found.length) % found.length;
      mark();
    }
  };
  find();
  return element("div", {}, field, list);
}

// Sends `told` as JSON, and returns the response with its HTTP `status`; after a failure, `error` is
// the reason.
export async function send(address, told, method = "POST") {
  const body = told === undefined ? {} : { body: JSON.stringify(told) };
  const headers = { "Content-Type": "application/json" };
  return heard(() => fetch(address, { method, headers, ...body }));
}

export async function heard(ask) {
  try {
    const answer = await ask();
    const told = await answer.json().catch(() => ({ error: `the server responded with status ${answer.status}` }));
    return { ...told, status: answer.status, after: Number(answer.headers.get("Retry-After")) };
  } catch {
    return { status: 0, error: "the server does not respond" };
  }
}
