// One sample or upload: its classes, activation maps and similar samples.
import { by, json, make, nameOf, run, share } from "/page.js";
import { forget, show } from "/image.js";

const dialog = by("sample");
/** The shown subject, as in addresses: `samples/12`. */
let shown = null;
let leaving = new AbortController();
let setMap = () => {};
let maps = null;
/** Its row and its probabilities from the run; empty for an upload. */
let stored = {};
/** Functions that open the previous and the next sample; null at the ends. */
let around = () => [null, null];

const CROPS = ["top left", "top right", "bottom left", "bottom right", "centre"];

/** The labels of a thumbnail: hits, misses and false predictions. */
function verdicts({ truth, predicted, part, score }) {
  const known = part === "train" && score !== null;
  const kind = (c) => (!known ? "plain" : truth.includes(c) ? (predicted.includes(c) ? "hit" : "missed") : "false");
  const sign = { hit: "✓ ", missed: "missed ", false: "false ", plain: "" };
  return [...new Set([...truth, ...predicted])].sort((a, b) => a - b).map((c) => make("span", { className: `label ${kind(c)}` }, sign[kind(c)] + nameOf(c)));
}

/** A button with a small image; opens the sample. */
export function thumbnail(sample, note, open, options) {
  const canvas = make("canvas", { "aria-hidden": "true", width: 96, height: 96 });
  const button = make("button", { type: "button", className: "thumb" }, canvas, make("span", { className: "id" }, sample.id), ...verdicts(sample), make("small", {}, note));
  button.addEventListener("click", open);
  const failed = (e) => e.name === "AbortError" || button.append(make("small", { className: "bad" }, e.message));
  show(canvas, `/api/samples/${sample.number}/thumbnail`, options).catch(failed);
  return make("li", {}, button);
}

/** Opens `samples/N` or `uploads/N`. */
export async function open(subject, neighbours = () => [null, null]) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  [shown, around, maps, stored] = [subject, neighbours, null, {}];
  setMap = () => {};
  const own = subject.startsWith("uploads/");
  by("title").textContent = own ? "Your image" : "…";
  by("about").textContent = own ? "Not a sample of this run: the mean of all its finished folds." : "";
  by("said").textContent = "";
  by("crops").hidden = true;
  by("neighbours").replaceChildren();
  by("classes").replaceChildren();
  by("map").value = "";
  by("map").disabled = true;
  [by("earlier").disabled, by("later").disabled] = around().map((n) => n === null);
  if (!dialog.open) {
    by("tools").append(by("channels")); // what lies behind an open dialog cannot be reached
    dialog.showModal();
  }
  try {
    const drawn = show(by("view"), `/api/${subject}/image`, { signal });
    if (!own) {
      stored = await json(`/api/${subject}`, { signal });
      const { sample } = stored;
      by("title").textContent = sample.id;
      const fold = sample.folds.length ? `, predicted by fold ${sample.folds.join(" and ")}, which did not train on it` : sample.part === "test" ? "" : ", predicted by no fold: the networks may have trained on it";
      by("about").textContent = `${sample.part === "test" ? "Test" : "Training"} sample${fold}${sample.loss === null ? "" : `; loss ${sample.loss.toFixed(2)}`}.`;
      classes(null);
    }
    setMap = await drawn;
    by("view").setAttribute("aria-label", `Image of ${by("title").textContent}`);
    if (by("look").checked || own) await look(signal);
  } catch (e) {
    if (e.name !== "AbortError") by("said").textContent = e.message;
  }
  if (!signal.aborted) await likeIt(signal);
}

/** The table of classes, most probable first. */
function classes(now) {
  const { probabilities, sample } = stored;
  const order = (now ?? probabilities ?? run.classes.map((_, c) => -c)).map((p, c) => [p, c]).sort((a, b) => b[0] - a[0]);
  const rows = order.map(([, c]) => {
    const p = now ? now[c] : probabilities?.[c];
    const { threshold, name } = run.classes[c];
    const bar = make("span", { className: "bar", "aria-hidden": "true" }, make("i"), make("b"));
    bar.firstChild.style.width = `${100 * (p ?? 0)}%`;
    bar.lastChild.style.left = `${100 * threshold}%`;
    const button = make("button", { type: "button", title: "show its activation map", disabled: !maps }, name);
    button.addEventListener("click", () => pick(c));
    const cells = [sample?.truth.includes(c) ? "yes" : "", share(probabilities?.[c]), share(threshold), share(now?.[c])];
    const row = make("tr", { className: p > threshold ? "above" : "" }, make("th", { scope: "row" }, button, bar), ...cells.map((text) => make("td", {}, text)));
    row.dataset.class = c;
    return row;
  });
  by("classes").replaceChildren(...rows);
}

/** Runs the networks. */
async function look(signal) {
  by("said").textContent = "The networks are running…";
  const made = await json(`/api/${shown}/prediction`, { signal });
  by("said").textContent = "";
  maps = { values: made.maps, width: made.width };
  classes(made.probabilities);
  by("map").disabled = false;
  pick(made.probabilities.indexOf(Math.max(...made.probabilities)));
  const views = made.folds[0].logits.length;
  const heads = made.folds.flatMap(({ fold, logits }) => logits.map((_, v) => `fold ${fold}, ${views === 1 ? "whole" : CROPS[Math.floor((v * 5) / views)] + (views > 5 ? ` ${(v % 8) + 1}` : "")}`));
  const body = run.classes.map(({ name }, c) => {
    const cells = made.folds.flatMap(({ logits }) => logits.map((row) => make("td", {}, row[c].toFixed(2))));
    return make("tr", {}, make("th", { scope: "row" }, name), ...cells);
  });
  const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Class"), ...heads.map((h) => make("th", { scope: "col" }, h))));
  by("logits").replaceChildren(head, make("tbody", {}, ...body));
  by("crops").hidden = false;
}

/** Shows the map of a class, or none. */
function pick(c) {
  by("map").value = c ?? "";
  setMap(c === null || !maps ? null : { values: maps.values[c], width: maps.width });
  for (const row of by("classes").rows) row.classList.toggle("mapped", Number(row.dataset.class) === c);
}

/** Similar samples; repeated until all embeddings are there. */
async function likeIt(signal) {
  const kind = by("by").value;
  try {
    by("progress").textContent = kind === "embedding" ? "The network is running…" : "";
    const { rows, done, of } = await json(`/api/${shown}/neighbours?by=${kind}`, { signal });
    forget(by("neighbours"));
    const note = (row) => (row.bits !== undefined ? `${row.bits} bits apart${row.bits <= run.radius ? ": a near-duplicate?" : ""}` : `cosine ${row.cosine.toFixed(3)}`);
    by("neighbours").replaceChildren(...rows.map((row) => thumbnail(row.sample, note(row), () => open(`samples/${row.sample.number}`), { signal })));
    const busy = kind === "embedding" && done < of;
    by("progress").textContent = busy ? `Among the first ${done.toLocaleString()} of ${of.toLocaleString()} samples; the others are being embedded.` : "";
    if (busy) setTimeout(() => signal.aborted || by("by").value !== kind || likeIt(signal), 3000);
  } catch (e) {
    if (e.name !== "AbortError") by("progress").textContent = e.message;
  }
}

/** Sets up what does not change with the sample. */
export function setUp() {
  by("map").append(...run.classes.map(({ name }, c) => make("option", { value: c }, name)));
  by("map").addEventListener("change", (e) => pick(e.target.value === "" ? null : Number(e.target.value)));
  by("by").addEventListener("change", () => likeIt(leaving.signal));
  by("look").addEventListener("change", (e) => {
    if (e.target.checked && !maps) look(leaving.signal).catch((e) => e.name === "AbortError" || (by("said").textContent = e.message));
    else if (!e.target.checked) pick(null);
  });
  const step = (i) => around()[i]?.();
  by("earlier").addEventListener("click", () => step(0));
  by("later").addEventListener("click", () => step(1));
  by("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (e) => {
    if (e.target.matches("select, input[type=range], .scroll")) return;
    if (e.key === "ArrowLeft") step(0);
    if (e.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("close", () => {
    leaving.abort();
    forget(dialog);
    by("filters").after(by("channels"));
  });
}
