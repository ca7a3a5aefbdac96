// Used by all parts of the page. Text from data only ever becomes text, never markup.

/** The response of a URL; an error has the message of the server. */
export async function ask(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new Error("the explorer does not answer; is `atlas explore` still running?");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error ?? `the explorer answers ${response.status}`);
}

export const json = async (address, options) => (await ask(address, options)).json();

/** An element with properties and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "scope") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

export const by = (id) => document.getElementById(id);

/** A probability as people read it. */
export const share = (p) => (p === null || p === undefined ? "" : p.toFixed(3));

/** Filled in once, before anything is shown: names, thresholds, folds. */
export const run = {};

export const nameOf = (c) => run.classes[c].name;
