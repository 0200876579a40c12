// Sends a file as soon as it is chosen or dropped, puts the answer into the page, and plays the song from the visitor's
// own file. Without this script the form works as any form does.
"use strict";

const form = document.getElementById("form");
const input = document.getElementById("file");
const status = document.getElementById("status");
const player = document.getElementById("player");
const audio = document.getElementById("audio");
const answer = document.getElementById("answer");
const title = document.title;
const READY_EVERY_MS = 700;
let sending = null;

function say(text, busy = false) {
  status.textContent = text;
  status.classList.toggle("busy", busy);
}

// An error of this page's own, in the same form as the server's.
function fail(name, detail) {
  const section = document.createElement("section");
  section.className = "card failure";
  section.setAttribute("role", "alert");
  const heading = document.createElement("h2");
  heading.textContent = "No answer";
  const code = document.createElement("code");
  code.id = "error";
  code.textContent = name;
  const kind = document.createElement("p");
  kind.append(code);
  const text = document.createElement("p");
  text.textContent = detail;
  section.append(heading, kind, text);
  answer.replaceChildren(section);
  say("");
}

async function listen(file) {
  sending?.abort();
  const mine = (sending = new AbortController());
  answer.replaceChildren();
  document.title = title;
  play(file);
  const maxMb = Number(form.dataset.maxMb);
  if (file.size > maxMb * 1e6) {
    fail("UploadTooLarge", `the file has more than serve.max_upload_mb=${maxMb}; take a shorter part of it`);
    return;
  }
  const waits = status.dataset.state === "loading";
  say(waits ? "The model is loading; then it listens …" : "Listening …", true);
  const body = new FormData();
  body.append(input.name, file);
  try {
    const reply = await fetch(form.action, { method: "POST", body, headers: { Accept: "text/html" }, signal: mine.signal });
    const page = new DOMParser().parseFromString(await reply.text(), "text/html");
    const found = page.getElementById("answer");
    if (mine.signal.aborted) return;
    if (!found) throw new Error(`status ${reply.status}`);
    answer.replaceChildren(...found.childNodes);
    document.title = page.title;
    prepare();
  } catch (error) {
    if (mine.signal.aborted) return;
    fail("NoAnswer", `The program behind this page doesn’t answer (${error.message}); is it still running?`);
  }
}

function play(file) {
  if (audio.src) URL.revokeObjectURL(audio.src);
  audio.src = URL.createObjectURL(file);
  player.hidden = false;
}

// What a browser can't play may be read all the same.
audio.addEventListener("error", () => { player.hidden = true; hideHeads(); });

function hideHeads() {
  for (const head of answer.querySelectorAll(".head")) head.hidden = true;
}

function seek(seconds) {
  if (player.hidden) return;
  audio.currentTime = seconds;
  audio.play().catch(() => {});
}

// The answer has come: say so, and let its times be clicked.
function prepare() {
  const genre = document.getElementById("genre");
  const first = answer.querySelector(".bars .value");
  if (answer.querySelector("#error")) say("");
  else say(genre ? `Done: ${genre.textContent}, ${first.textContent}.` : "Done: not sure.");
  const hint = document.getElementById("seek-hint");
  if (hint) hint.hidden = player.hidden;
  for (const figure of answer.querySelectorAll("figure.song")) {
    figure.classList.toggle("seekable", !player.hidden);
    const { begin, end, duration } = figure.dataset;
    figure.addEventListener("click", (event) => {
      const box = figure.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width - begin) / (end - begin);
      if (share >= 0 && share <= 1) seek(share * duration);
    });
  }
  // With a keyboard, by the times in the table.
  for (const cell of answer.querySelectorAll("th[data-start]")) {
    if (player.hidden) break;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = cell.textContent;
    button.setAttribute("aria-label", `Play from ${cell.textContent}`);
    button.addEventListener("click", () => seek(Number(cell.dataset.start)));
    cell.replaceChildren(button);
  }
}

audio.addEventListener("timeupdate", () => {
  for (const figure of answer.querySelectorAll("figure.song")) {
    const { begin, end, duration } = figure.dataset;
    const share = Math.min(1, audio.currentTime / duration);
    const head = figure.querySelector(".head");
    head.hidden = false;
    head.style.left = `${100 * (Number(begin) + share * (end - begin))}%`;
  }
});

input.addEventListener("change", () => { if (input.files.length) listen(input.files[0]); });
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (input.files.length) listen(input.files[0]);
});

// The whole page takes a dropped file; a browser would leave the page for it otherwise.
for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, (event) => { event.preventDefault(); form.classList.add("over"); });
}
addEventListener("dragleave", (event) => { if (!event.relatedTarget) form.classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  form.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (!file) return;
  input.value = "";
  listen(file);
});

document.getElementById("send").hidden = true;

async function untilReady() {
  while (status.dataset.state === "loading") {
    await new Promise((done) => setTimeout(done, READY_EVERY_MS));
    try {
      status.dataset.state = (await (await fetch("/state")).json()).state;
    } catch {
      continue; // the next file that is sent will tell
    }
  }
  if (status.classList.contains("busy")) say("Listening …", true);
  else if (status.dataset.state === "ready" && !answer.childElementCount) say("The model is ready.");
}
untilReady();
