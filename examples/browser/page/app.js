// Loads what the page needs, and ties what a visitor does to what the networks answer.
import { Network, best, fetched, median, race, start } from "./networks.js";
import { Pad } from "./pad.js";
import { cut } from "./picture.js";
import * as view from "./view.js";

const { $, ROLES } = view;
const TIMINGS = 100;
const THUMBS = 10;
const DIFFERENCES = 20;
const networks = {}; // by role, those that loaded
const costs = { bytes: {}, gzip: {}, fetch: {}, ready: {}, answer: {} };
const outcomes = new Map(); // of this visit: picture -> whether both answered the same
let demo, sample, pad, runtime, timing;
let shown = { key: null }; // the picture: its key in `outcomes`, and its label where the data have one
let pending = Promise.resolve();

/** Networks are run one job at a time: what is timed is never disturbed by what is drawn. */
function exclusive(job) {
  const done = pending.then(job);
  pending = done.catch(() => {});
  return done;
}

async function main() {
  if (typeof WebAssembly !== "object") {
    throw new Error("This browser has no WebAssembly, or it is switched off: the networks cannot run here.");
  }
  demo = JSON.parse(new TextDecoder().decode((await fetched("demo.json")).bytes));
  await pictures();
  const files = await Promise.all(ROLES.map((role) => fetched(demo.models[role].file).catch((error) => error)));
  const progress = (size) => view.say("state", `Loading ONNX Runtime Web: ${(size / 1e6).toFixed(1)} MB`);
  const wasm = await fetched("runtime/ort.wasm", progress);
  runtime = { bytes: wasm.bytes.length, ms: await start(wasm.bytes, files.find((file) => file.bytes)?.bytes) };
  const problems = [];
  for (const [i, role] of ROLES.entries()) {
    await load(role, files[i]).catch((error) => problems.push(`The ${role} network does not run: ${error.message}`));
  }
  view.say("problem", problems.join(" "));
  view.say("state", "");
  $("again").disabled = !Object.keys(networks).length;
  $("run").disabled = Object.keys(networks).length < ROLES.length;
  await answer();
  await time();
}

async function pictures() {
  const { input, sample: { file, labels, of } } = demo;
  sample = { labels, pictures: cut((await fetched(file)).bytes.buffer, input, labels.length) };
  const [, height, width] = input.shape;
  $("subject").textContent = `${demo.data}: ${demo.labels.length} classes, ${width} × ${height} pixels.`;
  const all = labels.length === of ? "All" : `${view.whole(labels.length)}, evenly spaced,`;
  $("sample-note").textContent = `${all} of the ${view.whole(of)} pictures that were held back from training.`;
  $("data-note").textContent = demo.note;
  $("runtime-note").textContent = `ONNX Runtime Web ${demo.runtime}, Copyright (c) Microsoft Corporation.`;
  pad = new Pad($("pad"), input);
  $("fit").disabled = !input.fit;
  $("fit").checked = Boolean(input.fit);
  thumbs(demo.sample.shown.slice(0, THUMBS));
  view.seen(null, input);
  listen();
}

async function load(role, file) {
  if (file instanceof Error) throw file;
  const { bytes, ms } = file;
  [costs.bytes[role], costs.fetch[role]] = [bytes.length, ms];
  if ("CompressionStream" in window) {
    const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
    costs.gzip[role] = (await new Response(stream).arrayBuffer()).byteLength;
  }
  networks[role] = await Network.load(file, demo.input, demo.models[role].shares);
  costs.ready[role] = networks[role].ms;
}

// a picture

let answering = false, again = false;

/** Answers for what the pad holds now; while one is made, only the newest picture waits. */
async function answer() {
  if (answering) {
    again = true;
    return;
  }
  answering = true;
  $("answers").ariaBusy = "true";
  const [raw, { key, label }] = [pad.read($("fit").checked), shown];
  view.seen(raw, demo.input);
  const shares = {};
  try {
    if (raw) await exclusive(async () => {
      for (const role of Object.keys(networks)) shares[role] = networks[role].answer(await networks[role].run(raw));
    });
  } catch (error) {
    view.say("problem", `The networks stopped: ${error.message}. Load the page again.`);
  }
  view.answers(shares, demo.labels, label);
  if (ROLES.every((role) => role in shares)) outcomes.set(key, best(shares.compact) === best(shares.float));
  view.visit(outcomes);
  answering = false;
  $("answers").ariaBusy = String(again);
  if (again) {
    again = false;
    await answer();
  }
}

/** A new picture: drawn over it is the same one. */
function take(key, label) {
  shown = { key, label };
  view.say("notice", "");
  view.pressed(label === undefined ? null : key);
  $("invert").disabled = !pad.bitmap;
  $("invert").checked = pad.inverted;
  return answer();
}

function example(index) {
  pad.show(sample.pictures[index]);
  return take(index, sample.labels[index]);
}

async function open(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    view.say("notice", `${file.name} is not a picture that this browser can read: take a PNG, JPEG or WebP file.`);
    return;
  }
  pad.open(bitmap);
  await take(Symbol(file.name));
}

function thumbs(indices, text = "The first of each class.") {
  $("examples-note").textContent = text;
  view.thumbs($("examples"), indices, { ...demo, sample }, example);
}

function byChance() {
  const left = sample.labels.map((_, i) => i);
  const drawn = [];
  while (left.length && drawn.length < THUMBS) drawn.push(...left.splice(Math.floor(Math.random() * left.length), 1));
  thumbs(drawn, "Drawn by chance.");
}

function listen() {
  pad.addEventListener("change", () => {
    if (shown.key === null || shown.label !== undefined) take(Symbol("drawing"));
    else answer();
  });
  $("clear").addEventListener("click", () => {
    pad.clear();
    take(null);
  });
  $("fit").addEventListener("change", answer);
  $("invert").addEventListener("change", () => {
    pad.open(pad.bitmap, $("invert").checked);
    answer();
  });
  $("others").addEventListener("click", byChance);
  $("file").addEventListener("change", (event) => {
    if (event.target.files.length) open(event.target.files[0]);
    event.target.value = ""; // the same file may be chosen again
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
    else view.say("notice", "What was dropped is no file: save the picture first, then drop the file.");
  });
  $("again").addEventListener("click", time);
  $("run").addEventListener("click", run);
}

// figures

async function time() {
  const loaded = Object.keys(networks);
  if (!loaded.length) return tell();
  await busy(async () => {
    $("costs-note").textContent = "Measuring …";
    const few = demo.sample.shown.map((i) => sample.pictures[i]);
    const { made, each } = await race(loaded.map((role) => networks[role]), few, TIMINGS, exclusive);
    loaded.forEach((role, i) => { costs.answer[role] = median(made[i].times); });
    timing = { each, count: made[0].times.length };
    tell();
  });
}

function tell() {
  const bytes = (value) => `${view.whole(value)} bytes`;
  view.costs([
    ["File", costs.bytes, bytes],
    ["The same through gzip", costs.gzip, bytes],
    ["Fetched in", costs.fetch, view.milliseconds],
    ["Ready in", costs.ready, view.milliseconds],
    ["One answer, median", costs.answer, view.milliseconds],
  ]);
  const sentences = [
    `Both need ONNX Runtime Web ${demo.runtime}, which is in neither column: ${bytes(runtime.bytes)} of WebAssembly,`,
    `started in ${view.milliseconds(runtime.ms)}.`,
    `Files: ${ROLES.map((role) => demo.models[role].name).join(" and ")}.`,
  ];
  if (timing) sentences.unshift(
    `One answer: median of ${timing.count} timings of ${timing.each} answers each, after a warm-up,`,
    "one picture at a time, the two in turn; WebAssembly, 1 thread.",
  );
  $("costs-note").textContent = sentences.join(" ");
}

async function run() {
  await busy(async () => {
    const [n, bar] = [sample.pictures.length, $("progress")];
    [bar.hidden, bar.max, bar.value] = [false, n, 0];
    const pair = ROLES.map((role) => networks[role]);
    const { made } = await race(pair, sample.pictures, TIMINGS, exclusive, (done) => { bar.value = done; });
    bar.hidden = true;
    const given = byRole((role, i) => made[i].outputs.map(best));
    const right = byRole((role) => given[role].map((label, i) => label === sample.labels[i]));
    const alike = given.compact.map((label, i) => label === given.float[i]);
    view.outcome(right, alike, byRole((role, i) => median(made[i].times)));
    differ(alike, given);
  });
}

function byRole(make) {
  return Object.fromEntries(ROLES.map((role, i) => [role, make(role, i)]));
}

function differ(alike, given) {
  const all = alike.flatMap((same, i) => (same ? [] : [i]));
  const some = all.slice(0, DIFFERENCES);
  $("differ").hidden = !all.length;
  $("differ-title").textContent = some.length < all.length ? `The first ${DIFFERENCES} on which they differ` : "On which they differ";
  const names = { data: sample.labels, ...given };
  const told = (i) => Object.entries(names).map(([who, labels]) => `${who}: ${demo.labels[labels[i]]}`);
  const choose = (index) => example(index).then(() => $("input").scrollIntoView());
  view.thumbs($("differences"), some, { ...demo, sample }, choose, told);
}

/** Buttons that measure are off while something is measured. */
async function busy(job) {
  const buttons = [$("again"), $("run")].filter((button) => !button.disabled);
  for (const button of buttons) button.disabled = true;
  try {
    await job();
  } catch (error) {
    view.say("problem", `The networks stopped: ${error.message}. Load the page again.`);
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

main().catch((error) => {
  view.say("state", "");
  view.say("problem", error.message);
});
