// The page itself: a picture comes in, its way is told, the cutout is shown, and the calls for it.

const part = (id) => document.getElementById(id);
const bench = part("bench");
const GATEWAY = bench.dataset.url;
const BYTES_MAX = Number(bench.dataset.bytesMax);
const IS_DEMO = "demo" in bench.dataset;
const EXTENSIONS = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp" };

const viewer = new Viewer((scale) => {
  part("zoom").textContent = `${Math.round(scale * 100)} %`;
});
let picture = null; // { file, name, path, url }
let removal = null;
let hasArrivedMaybe = false; // the last try ended without an answer
let cutout = null; // the last one, with its picture: there to come back to until the next is
let objectUrls = []; // to be given back

// ---- What the stage shows: empty, opening, working, refused, done.
// While a picture is opening there is nothing to press: `picture` is another one already than what was done or refused.

function show(state) {
  part("stage").dataset.state = state;
  part("prompt").hidden = state !== "empty";
  part("working").hidden = state !== "working";
  part("refused").hidden = state !== "refused";
  part("tools").hidden = state !== "done";
  part("again-row").hidden = state !== "refused" && state !== "done";
  const isCutoutThere = state === "done" || (state === "refused" && cutout !== null);
  part("result").hidden = !isCutoutThere;
  for (const button of document.querySelectorAll(".keep")) button.hidden = cutout === null;
  if (state !== "working") tellCalls(isCutoutThere ? cutout : null);
  if (state === "empty") viewer.root.hidden = true;
  window.onbeforeunload = state === "working" ? askBeforeLeaving : null;
}

// The browser's own question: a cutout that is in work is charged and would be lost with the page.
function askBeforeLeaving(event) {
  event.preventDefault();
  return "A cutout is in work.";
}

function isWorking() {
  return part("stage").dataset.state === "working";
}

function say(words) {
  if (part("said").textContent !== words) part("said").textContent = words;
}

// Whether the focus is nobody's, or on what is hidden while a picture is worked on.
function isFocusFree() {
  const { activeElement: holder } = document;
  return holder === document.body || part("stage").contains(holder) || part("again-row").contains(holder);
}

function objectUrl(blob) {
  const url = URL.createObjectURL(blob);
  objectUrls.push(url);
  return url;
}

// Gives back the pictures that nobody can come back to.
function letGo() {
  const needed = new Set([picture?.url, cutout?.url, cutout?.picture.url]);
  for (const url of objectUrls) if (!needed.has(url)) URL.revokeObjectURL(url);
  objectUrls = objectUrls.filter((url) => needed.has(url));
}

function tellProgress(percent, word) {
  const bar = part("progress");
  if (percent === null) bar.removeAttribute("value");
  else bar.value = percent;
  part("stage-word").textContent = word;
  say(word);
}

function letCancel(isPossible) {
  part("cancel").disabled = !isPossible;
  part("cancel").textContent = isPossible ? "Cancel" : "In work already";
  part("goes-on").hidden = isPossible;
}

// ---- From a picture to its cutout.

async function take(file, name, path = "") {
  if (isWorking() && !(await stop())) return;
  removal = null;
  picture = { file, name: name || file.name || "picture", path, url: objectUrl(file) };
  letGo();
  show("opening");
  const mine = picture;
  await viewer.showOriginal(mine.url);
  if (picture === mine) await cut();
}

// Cancels what waits, and answers whether nothing is in work now. What a worker has begun is charged: it stays.
async function stop() {
  const mine = removal;
  const isCanceled = await mine.cancel().catch(() => false);
  if (removal !== mine) return false; // another picture was quicker
  if (isCanceled || !isWorking()) return true;
  letCancel(false);
  say("It is in work already: it will be finished, and is charged if it succeeds. Another picture can come after it.");
  return false;
}

function chosenOptions() {
  const options = { model: part("model").value };
  if (part("format").value !== "png") options.format = part("format").value;
  if (part("crop").checked) {
    options.crop = "true";
    const margin = part("crop_margin").value.trim();
    if (margin) options.crop_margin = margin;
  }
  return options;
}

async function cut(isRetry = false) {
  const options = chosenOptions();
  const key = part("key").value.trim();
  const isSame =
    isRetry && removal.picture === picture && JSON.stringify([options, key]) === JSON.stringify([removal.options, removal.key]);
  const idempotencyKey = isSame ? removal.idempotencyKey : newIdempotencyKey();
  const mine = (removal = new Removal(picture, options, key, idempotencyKey));
  try {
    if (picture.file.size === 0) throw new Refusal("empty_file");
    if (picture.file.size > BYTES_MAX) throw new Refusal("file_too_large", `${fileSize(picture.file.size)}; ${fileSize(BYTES_MAX)} are allowed.`);
    if (!key && !IS_DEMO) throw new Refusal("missing_key");
    tellProgress(null, "Sending the picture");
    letCancel(true);
    const isFree = isFocusFree();
    show("working");
    if (isFree) part("cancel").focus({ preventScroll: true });
    const done = await mine.run(tellProgress);
    if (removal === mine) await present(mine, { ...done, taskId: mine.taskId, options: mine.options, picture });
  } catch (error) {
    if (removal !== mine) return;
    hasArrivedMaybe = error.code === "offline";
    refuse(error instanceof Refusal ? error : new Refusal("failed", String(error.message)), !key && IS_DEMO);
  }
}

function refuse(refusal, isDemo) {
  if (refusal.code === "canceled") {
    say("Canceled. Nothing was charged.");
    if (cutout) return showCutoutAgain();
    show("empty");
    part("file").focus({ preventScroll: true });
    return;
  }
  const [title, words, hint] = refusalWords(refusal, isDemo);
  part("refusal-title").textContent = title;
  part("refusal-words").textContent = words;
  part("refusal-hint").textContent = hint;
  part("retry").hidden = FILE_FAULTS.has(refusal.code);
  part("retry").classList.toggle("main", mayHelp(refusal.code));
  part("keep").classList.toggle("main", !mayHelp(refusal.code));
  viewer.root.classList.add("alone");
  show("refused");
  if (FILE_FAULTS.has(refusal.code)) part("again-row").hidden = true;
  say("");
  const isAboutKey = ["missing_key", "unknown_key", "key_revoked"].includes(refusal.code);
  const wantsKey = isAboutKey || (isDemo && refusal.code === "insufficient_credits");
  if (wantsKey) part("key-card").open = true;
  const next = [...part("refused").querySelectorAll("button")].find((button) => !button.hidden);
  (isAboutKey ? part("key") : next).focus({ preventScroll: !isAboutKey });
}

async function showCutoutAgain() {
  const former = cutout;
  const tried = removal;
  if (picture !== former.picture) {
    picture = former.picture;
    letGo();
    show("opening");
    await viewer.showOriginal(picture.url);
    // Where the browser cannot draw it any more, it can still be downloaded.
    if (picture === former.picture) await viewer.showCutout(former.url).catch(() => {});
    if (picture !== former.picture || removal !== tried) return; // another came meanwhile
    viewer.reveal(former.isSameFrame);
  }
  viewer.root.hidden = false;
  viewer.root.classList.remove("alone");
  show("done");
  part("download").focus({ preventScroll: true });
}

// ---- The cutout, and what is to be known of it.

async function present(mine, done) {
  const url = objectUrl(done.blob);
  const extension = EXTENSIONS[done.blob.type] ?? done.name.split(".").pop();
  done.saveAs = `${done.picture.name.replace(/\.[^.]*$/, "") || "picture"}-cutout.${extension}`;
  const hadFocus = part("working").contains(document.activeElement);
  const isSameFrame = await viewer.showCutout(url);
  if (removal !== mine) return;
  part("slide").hidden = !isSameFrame;
  part("no-slide").hidden = isSameFrame;
  const hasAlpha = extension !== "jpg";
  for (const input of document.querySelectorAll("#grounds input, [name=view]")) input.disabled = !hasAlpha;
  if (!hasAlpha) viewer.setView("colour");
  const link = part("download");
  link.href = url;
  link.download = done.saveAs;
  link.textContent = `Download ${extension.toUpperCase()} · ${fileSize(done.blob.size)}`;
  tellOf(done);
  cutout = { ...done, url, isSameFrame };
  letGo();
  show("done");
  viewer.reveal(isSameFrame);
  if (hadFocus) link.focus({ preventScroll: true });
}

function tellOf({ task, charged, options }) {
  const percent = `${Math.round(task.confidence * 100)} %`;
  const [word, tone] = sureness(task.confidence);
  part("confidence").textContent = percent;
  part("sureness").textContent = word;
  part("sureness").className = `badge ${tone}`;
  part("meter").value = task.confidence;
  list(part("reasons"), task.reasons.map(reasonWord));
  list(part("warnings"), task.warnings.map(warningSentence));
  const [width, height] = viewer.size;
  const model = options.model === "auto" ? `${task.result.model} (auto)` : task.result.model;
  facts([
    ["Model", model],
    ["Size", `${width} × ${height} px`],
    ["Took", `${task.result.elapsed_seconds.toFixed(1)} s`],
    ["Charged", `${charged} credits`],
  ]);
  const doubts = task.reasons.map(reasonWord).join(" ");
  say(`Done. Confidence ${percent}, ${word}. ${doubts} ${task.warnings.map(warningSentence).join(" ")}`);
}

// The calls for what the page shows; without a cutout those that it was served with.
const servedCalls = ["codia-curl", "revid-curl", "api-lead"].map((id) => [id, [...part(id).childNodes]]);

function tellCalls(done) {
  const calls = done && [
    ["codia-curl", [codiaCurl(GATEWAY, done)]],
    ["revid-curl", [revidCurl(GATEWAY, done)]],
    ["api-lead", [`Exactly what was done to ${done.picture.name}, from a shell. Put your key in the environment as CUTOUT_API_KEY.`]],
  ];
  for (const [id, words] of calls ?? servedCalls) part(id).replaceChildren(...words);
}

function list(place, lines) {
  place.hidden = lines.length === 0;
  place.replaceChildren(...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
}

function facts(pairs) {
  const cell = (tag, textContent) => Object.assign(document.createElement(tag), { textContent });
  part("facts").replaceChildren(...pairs.flatMap(([name, value]) => [cell("dt", name), cell("dd", value)]));
}

// ---- Picking, dropping, pasting, samples.

part("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (file) take(file);
});

document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (!file) return;
  event.preventDefault();
  take(file, file.name === "image.png" ? "pasted.png" : file.name);
});

const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!carriesFile(event)) return;
  event.preventDefault();
  part("stage").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) part("stage").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  part("stage").classList.remove("over");
  if (!carriesFile(event)) return;
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) take(file);
});

for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", async () => {
    const { sample, name, path } = button.dataset;
    const answer = await fetch(sample);
    const blob = await answer.blob();
    await take(new File([blob], name, { type: blob.type }), name, path);
  });
}

for (const button of document.querySelectorAll(".another")) {
  button.addEventListener("click", () => {
    removal = null;
    show("empty");
    part("file").focus();
    part("stage").scrollIntoView({ block: "nearest" });
  });
}

// ---- Cancel, again, options.

part("cancel").addEventListener("click", stop);
part("retry").addEventListener("click", () => cut(hasArrivedMaybe));
for (const button of document.querySelectorAll(".keep")) button.addEventListener("click", showCutoutAgain);
part("options").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!part("again-row").hidden) cut(); // Enter in a field comes here, too
});
part("crop").addEventListener("change", (event) => {
  part("margin-field").hidden = !event.target.checked;
});
part("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (part("stage").dataset.state === "refused") cut();
});

// ---- Background, view, zoom.

const groundPicture = new GroundPicture(
  { file: part("ground-file"), pick: part("ground-pick"), said: part("ground-said") },
  () => chooseGround(),
);

function chooseGround() {
  const { value } = document.querySelector("[name=ground]:checked");
  part("ground-colour").hidden = value !== "colour";
  if (value !== "picture") viewer.setGround(value === "colour" ? part("ground-colour").value : value);
  else if (groundPicture.url) viewer.setGround("transparent", groundPicture.url);
  groundPicture.choose(value === "picture");
}

part("grounds").addEventListener("change", (event) => {
  if (event.target.name === "ground") chooseGround();
});
part("ground-colour").addEventListener("input", chooseGround);
for (const input of document.querySelectorAll("[name=view]")) {
  input.addEventListener("change", () => viewer.setView(input.value));
}
part("zoom-in").addEventListener("click", () => viewer.step(1));
part("zoom-out").addEventListener("click", () => viewer.step(-1));
part("zoom-fit").addEventListener("click", () => viewer.fit());

document.querySelector(".zoom").hidden = typeof Panzoom === "undefined";
viewer.setGround("checker");
show("empty");
