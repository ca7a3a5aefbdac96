// Draws stored pixels (red, green, blue, yellow) with the chosen channels and contrast.
import { ask, by, make } from "/page.js";

const NAMES = ["red", "green", "blue", "yellow"];
const STAINED = ["microtubules", "protein", "nucleus", "endoplasmic reticulum"];
const channels = NAMES.map(() => ({ on: true, gain: 1 }));
/** What is drawn now: canvas to redraw function. */
const drawn = new Map();

/** By channel, the brightness of each stored value; yellow adds to red and green at half strength. */
function curves() {
  return channels.map(({ on, gain }, c) => Float32Array.from({ length: 256 }, (_, v) => (on ? Math.min(255, v * gain) * (c === 3 ? 0.5 : 1) : 0)));
}

function paint(canvas, bytes, map, [red, green, blue, yellow]) {
  const side = Math.sqrt(bytes.length / 4);
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const image = new ImageData(side, side);
  for (let i = 0; i < bytes.length; i += 4) {
    const both = yellow[bytes[i + 3]];
    image.data[i] = red[bytes[i]] + both;
    image.data[i + 1] = green[bytes[i + 1]] + both;
    image.data[i + 2] = blue[bytes[i + 2]];
    image.data[i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  if (map) {
    const { values, width } = map;
    const small = new OffscreenCanvas(width, values.length / width);
    const heat = new ImageData(width, values.length / width);
    values.forEach((v, i) => heat.data.set([255, 0, 255, v * 0.6], 4 * i));
    small.getContext("2d").putImageData(heat, 0, 0);
    context.drawImage(small, 0, 0, side, side);
  }
}

/** Shows the image of a URL on a canvas, and redraws it when the channels change. */
export async function show(canvas, address, options) {
  const bytes = new Uint8Array(await (await ask(address, options)).arrayBuffer());
  const state = { bytes, map: null };
  const draw = (with_ = curves()) => paint(canvas, state.bytes, state.map, with_);
  drawn.set(canvas, draw);
  draw();
  return (map) => {
    state.map = map;
    draw();
  };
}

/** Forgets the canvases below an element. */
export function forget(element) {
  for (const canvas of element.querySelectorAll("canvas")) drawn.delete(canvas);
}

function redraw() {
  const now = curves();
  for (const draw of drawn.values()) draw(now);
}

/** A switch and a contrast for each channel. */
export function controls() {
  const place = by("channels");
  const parts = NAMES.map((name, c) => {
    const button = make("button", { type: "button", className: `channel ${name}`, "aria-pressed": "true", title: `key ${c + 1}` }, `${name} `, make("small", {}, STAINED[c]));
    const slider = make("input", { type: "range", min: 0.5, max: 8, step: 0.25, value: 1, "aria-label": `Contrast of ${name}` });
    button.addEventListener("click", () => {
      channels[c].on = !channels[c].on;
      button.setAttribute("aria-pressed", channels[c].on);
      redraw();
    });
    slider.addEventListener("input", () => {
      channels[c].gain = Number(slider.value);
      redraw();
    });
    place.append(make("div", {}, button, slider));
    return { button, slider };
  });
  const reset = make("button", { type: "button" }, "Reset");
  reset.addEventListener("click", () => {
    parts.forEach(({ button, slider }, c) => {
      channels[c] = { on: true, gain: 1 };
      button.setAttribute("aria-pressed", "true");
      slider.value = 1;
    });
    redraw();
  });
  place.append(reset);
  document.addEventListener("keydown", (e) => {
    const typing = e.target.matches("input:not([type=range]):not([type=checkbox]), select");
    if (!typing && !e.ctrlKey && !e.metaKey && !e.altKey && "1234".includes(e.key)) parts[Number(e.key) - 1].button.click();
  });
}
