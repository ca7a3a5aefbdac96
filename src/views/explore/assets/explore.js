// The list of samples: filters, order and pages.
import { by, json, make, run } from "/page.js";
import { controls, forget } from "/image.js";
import { open, setUp, thumbnail } from "/sample.js";

const PAGE = 60;
const form = by("filters");
let from = 0;
let rows = [];
let total = 0;
/** The query of the current list. */
let asked = "";
let leaving = new AbortController();

/** The filters as a URL query. */
function question() {
  const given = [...new FormData(form)].filter(([, value]) => value !== "");
  return new URLSearchParams(given);
}

async function load() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  asked = String(question());
  by("csv").href = `/api/samples.csv?${asked}`;
  history.replaceState(null, "", `?${asked}${from ? `#${from}` : ""}`);
  try {
    const page = new URLSearchParams(asked);
    page.set("from", from);
    page.set("count", PAGE);
    ({ rows, total } = await json(`/api/samples?${page}`, { signal }));
    const scored = page.has("class") ? "" : "highest ";
    const note = ({ score }) => (score === null ? "not predicted" : `${scored}${score.toFixed(3)}`);
    forget(by("samples"));
    by("samples").replaceChildren(...rows.map((row, i) => thumbnail(row, note(row), () => openAt(i), { signal })));
    by("where").textContent = total ? `${(from + 1).toLocaleString()} to ${(from + rows.length).toLocaleString()} of ${total.toLocaleString()} samples` : "No sample matches.";
  } catch (e) {
    if (e.name !== "AbortError") by("where").textContent = e.message;
  }
  by("back").disabled = from === 0;
  by("next").disabled = from + PAGE >= total;
}

/** Opens the i-th sample of this page; the arrows go on through the pages. */
function openAt(i) {
  const there = (to) => {
    if (to >= 0 && to < rows.length) return () => openAt(to);
    const start = from + (to < 0 ? -PAGE : PAGE);
    if (start < 0 || start >= total) return null;
    return async () => {
      from = start;
      await load();
      openAt(to < 0 ? rows.length - 1 : 0);
    };
  };
  open(`samples/${rows[i].number}`, () => [there(i - 1), there(i + 1)]);
}

/** Uploads dropped files; the server reports what is wrong with them. */
async function send(files) {
  const say = (text) => (by("dropped").textContent = text);
  const bytes = [...files].reduce((sum, file) => sum + file.size, 0);
  if (bytes > run.upload_bytes) return say(`More than ${run.upload_bytes / 2 ** 20} MiB; drop smaller images.`);
  const body = new FormData();
  for (const file of files) body.append("file", file);
  say("Sending…");
  try {
    const { number } = await json("/api/uploads", { method: "POST", body });
    say("");
    await open(`uploads/${number}`);
  } catch (e) {
    say(e.message);
  }
}

function dropping() {
  by("files").addEventListener("change", (e) => {
    if (e.target.files.length) send([...e.target.files]);
    e.target.value = ""; // so that a corrected file can be chosen again
  });
  document.addEventListener("dragover", (e) => {
    e.preventDefault();
    by("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => by("drop").classList.remove("over"));
  document.addEventListener("drop", (e) => {
    e.preventDefault();
    by("drop").classList.remove("over");
    if (e.dataTransfer.files.length) send(e.dataTransfer.files);
  });
}

function filters() {
  form.elements.class.append(...run.classes.map(({ name, samples }, c) => make("option", { value: c }, `${name} (${samples.toLocaleString()})`)));
  form.elements.fold.append(...run.folds.map((fold) => make("option", { value: fold }, fold)));
  for (const [name, value] of new URLSearchParams(location.search)) {
    if (form.elements[name]) form.elements[name].value = value;
  }
  from = Number(location.hash.slice(1)) || 0;
  let waiting;
  const changed = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (String(question()) === asked) return; // as when a field is left
      from = 0;
      load();
    }, 150);
  };
  for (const kind of ["input", "change", "reset"]) form.addEventListener(kind, changed);
  form.addEventListener("submit", (e) => e.preventDefault());
  for (const [id, step] of [["back", -PAGE], ["next", PAGE]]) {
    by(id).addEventListener("click", () => {
      from = Math.max(0, from + step);
      load().then(() => by("samples").focus());
    });
  }
}

try {
  Object.assign(run, await json("/api/run"));
  by("run").textContent = run.run;
  by("facts").textContent = `${run.train.toLocaleString()} training and ${run.test.toLocaleString()} test samples, ${run.folds.length} finished folds, thresholds: ${run.method}`;
  controls();
  filters();
  setUp();
  dropping();
  await load();
} catch (e) {
  by("where").textContent = e.message;
}
