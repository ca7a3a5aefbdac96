// node browser.mjs REPORT FOLDER: opens a report from disk in Chromium and looks at it as its
// readers do; screenshots go to FOLDER. Prints what is wrong, line by line, and exits 1.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [report, folder] = process.argv.slice(2);
const require = createRequire(path.join(process.cwd(), "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const url = pathToFileURL(path.resolve(report)).href;
const wrong = [];

const options = { executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] };
const browser = await chromium.launch(options);
for (const [scheme, width] of [["light", 1280], ["dark", 1280], ["light", 390], ["dark", 390]]) {
  const viewport = { width, height: 900 };
  const context = await browser.newContext({ colorScheme: scheme, viewport });
  const page = await context.newPage();
  const say = (text) => wrong.push(`${scheme} ${width}: ${text}`);
  page.on("console", (m) => m.type() === "error" && say(`console: ${m.text()}`));
  page.on("pageerror", (e) => say(`script: ${e}`));
  const foreign = (address) => address !== url && !address.startsWith("data:");
  page.on("request", (r) => foreign(r.url()) && say(`requests ${r.url()}`));
  await page.goto(url);

  // Every section that the navigation names is there and has a heading.
  const sections = await page.$$eval("nav a", (links) =>
    links.map((a) => [a.hash, document.querySelector(`${a.hash} h2`)?.textContent ?? ""]));
  if (sections.length < 11) say(`only ${sections.length} sections`);
  for (const [hash, heading] of sections) if (!heading) say(`${hash} has no heading`);
  const broken = await page.$$eval("a[href^='#']", (links) =>
    links.map((a) => a.hash).filter((hash) => !document.getElementById(hash.slice(1))));
  if (broken.length) say(`links to nowhere: ${broken}`);
  const images = await page.$$eval("img", async (all) => {
    await Promise.all(all.map((i) => i.decode().catch(() => {})));
    return [all.length, all.filter((i) => !i.alt || i.naturalWidth !== 96).length];
  });
  if (images[0] === 0 || images[1])
    say(`${images[1]} of ${images[0]} images have no text or cannot be shown`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (wide > 0) {
    const over = await page.$$eval("main *", (all) => all
      .filter((e) => !e.parentElement.closest(".scroll, pre"))
      .filter((e) => e.getBoundingClientRect().right > innerWidth)
      .map((e) => `${e.tagName} ${e.className} ${e.textContent.trim().slice(0, 40)}`));
    say(`the page is ${wide} pixels wider than the screen: ${over.slice(0, 3).join("; ")}`);
  }

  // Sorting: by F1 down and up, then by name.
  const cells = (rows, i) => rows.map((r) => r.cells[i].textContent);
  const column = async (i) => page.$$eval("#class-table tbody tr", cells, i);
  const head = (name) =>
    page.locator("#class-table thead th", { hasText: new RegExp(`^${name}$`) });
  const sorted = (values, by) => values.every((v, i) => i === 0 || by(values[i - 1], v) <= 0);
  await head("F1").locator("button").click();
  if (!sorted((await column(5)).map(Number), (a, b) => b - a)) say("F1 does not sort downwards");
  if ((await head("F1").getAttribute("aria-sort")) !== "descending") say("no aria-sort");
  await head("F1").locator("button").press("Enter");
  if (!sorted((await column(5)).map(Number), (a, b) => a - b))
    say("F1 does not sort upwards with the keyboard");
  await head("Class").locator("button").click();
  if (!sorted(await column(0), (a, b) => a.localeCompare(b))) say("classes do not sort by name");
  if (new Set(await column(1)).size !== 28) say("sorting loses classes");
  await head("Number").locator("button").click();
  await head("Number").locator("button").click();

  // A link to a class opens its samples.
  await page.locator("#class-table a").first().click();
  if (!(await page.locator("#class-0").evaluate((d) => d.open)))
    say("a link to a class does not open it");

  await page.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = true)));
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  for (const v of violations) {
    const first = v.nodes[0].html.slice(0, 120);
    const text = `axe ${v.impact} ${v.id}: ${v.help} (${v.nodes.length}, such as ${first})`;
    if (["serious", "critical"].includes(v.impact)) say(text);
    else console.log(text);
  }
  await page.reload();
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: path.join(folder, `${scheme}-${width}-top.png`) });
  await page.screenshot({ path: path.join(folder, `${scheme}-${width}.png`), fullPage: true });
  if (scheme === "light" && width === 1280)
    await page.pdf({ path: path.join(folder, "print.pdf"), format: "A4" });
  await context.close();
}
await browser.close();
wrong.forEach((text) => console.error(text));
process.exitCode = wrong.length ? 1 : 0;
