// The two networks in ONNX Runtime Web: WebAssembly on one thread of this page.
import * as ort from "./runtime/ort.js";

export const LEAST_MS = 2; // of one timing: browsers round their clocks, to 0.1 ms in Chromium
const WARM_MS = 100; // of each network before its first timing: the browser compiles what runs often once more
const DOUBLINGS = 16;

ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";

/** The bytes of a file beside this page, and how long they took. Throws Error with what a visitor can act on. */
export async function fetched(file, received = () => {}) {
  const start = performance.now();
  let response;
  try {
    response = await fetch(file, { cache: "no-cache" });
  } catch {
    throw new Error(`${file} did not arrive: is the server still there?`);
  }
  if (!response.ok) throw new Error(`${file} did not arrive: the server says ${response.status}.`);
  const [parts, reader] = [[], response.body.getReader()];
  let size = 0;
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    parts.push(value);
    received(size += value.length);
  }
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  return { bytes, ms: performance.now() - start };
}

/** Compile the runtime, with a first network of these bytes, which is let go of again. Gives the ms that took. */
export async function start(wasm, bytes) {
  ort.env.wasm.wasmBinary = wasm;
  const begun = performance.now();
  await ort.InferenceSession.create(bytes).then((session) => session.release(), () => {}); // Network.load says what is wrong
  return performance.now() - begun;
}

export class Network {
  /** Throws what ONNX Runtime says of a file that it refuses. `ms`: how long it took to be ready. */
  static async load({ bytes }, input, shares) {
    const made = new Network();
    const begun = performance.now();
    made.session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    made.ms = performance.now() - begun;
    [made.input, made.shares] = [input, shares];
    return made;
  }

  /** Outputs for one picture of raw values. */
  async run(raw) {
    const tensor = new ort.Tensor(this.input.dtype, raw, [1, ...this.input.shape]);
    const outputs = await this.session.run({ [this.session.inputNames[0]]: tensor });
    return outputs[this.session.outputNames[0]].data;
  }

  /** Share of each class: the softmax of the outputs, where they are no shares already. */
  answer(outputs) {
    const most = Math.max(...outputs);
    const powers = Array.from(outputs, (value) => Math.exp(value - most));
    const sum = powers.reduce((a, b) => a + b);
    return this.shares ? Array.from(outputs) : powers.map((power) => power / sum);
  }
}

/** Index of the largest; of several, the first. */
export function best(values) {
  return values.indexOf(Math.max(...values));
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Run the networks in turn over the pictures, again and again until there are `least` timings of each and every picture was seen.
 *
 * One timing is `each` pictures of one network, as many as take LEAST_MS, one at a time. Which network is first alternates, in
 * an even number of rounds, as whoever is first after a pause is slower; one answer before each timing is not timed.
 * `exclusive` runs a function while nothing else runs a network. Gives the outputs of the first round by network, ms of one
 * answer by timing, and `each`.
 */
export async function race(networks, pictures, least, exclusive, progress = () => {}) {
  for (const network of networks) {
    await exclusive(() => warm(network, pictures));
    await breath();
  }
  const each = await exclusive(() => enough(networks, pictures));
  const made = networks.map(() => ({ outputs: [], times: [] }));
  const unfinished = (at) => made[0].times.length < least || at < pictures.length || (at / each) % 2;
  for (let at = 0; unfinished(at); at += each) {
    const some = Array.from({ length: each }, (_, i) => pictures[(at + i) % pictures.length]);
    const order = networks.map((_, i) => i);
    if ((at / each) % 2) order.reverse();
    await exclusive(async () => {
      for (const i of order) {
        await networks[i].run(some[0]);
        const [outputs, ms] = await timed(networks[i], some);
        made[i].times.push(ms / each);
        made[i].outputs.push(...outputs.slice(0, pictures.length - made[i].outputs.length));
      }
    });
    progress(Math.min(at + each, pictures.length));
    await breath();
  }
  return { made, each };
}

/** Between two jobs the page draws and listens. */
function breath() {
  return new Promise((resolve) => setTimeout(resolve));
}

async function warm(network, pictures) {
  for (let ms = 0; ms < WARM_MS;) ms += (await timed(network, pictures.slice(0, 16)))[1];
}

/** How many pictures take the faster network LEAST_MS. */
async function enough(networks, pictures) {
  let count = 1;
  for (let i = 0; i < DOUBLINGS; i++) {
    const some = Array.from({ length: count }, (_, at) => pictures[at % pictures.length]);
    const times = [];
    for (const network of networks) times.push((await timed(network, some))[1]);
    if (Math.min(...times) >= LEAST_MS) break;
    count *= 2;
  }
  return count;
}

async function timed(network, pictures) {
  const outputs = [];
  const begun = performance.now();
  for (const raw of pictures) outputs.push(await network.run(raw));
  return [outputs, performance.now() - begun];
}
