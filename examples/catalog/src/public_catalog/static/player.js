// Plays a list from its page, one song after the other. Without it every song still plays on its own page.
"use strict";
(() => {
  const alone = document.querySelector("#player audio");
  if (alone) {
    // The last source failed: none of them plays here.
    alone.querySelector("source:last-of-type").addEventListener("error", () => {
      document.querySelector("[data-failed]").hidden = false;
    });
    return;
  }
  const links = [...document.querySelectorAll("a.play[data-sources]")];
  if (!links.length) return;
  const shape = (d) => `<svg viewBox="0 0 20 20" aria-hidden="true"><path d="${d}"/></svg>`;
  const deck = document.createElement("section");
  deck.className = "deck";
  deck.hidden = true;
  deck.setAttribute("aria-label", "Player");
  deck.innerHTML = `<div class="wide"><p aria-live="polite"><strong dir="auto"></strong><small dir="auto"></small></p>
    <button type="button" aria-label="Previous song">${shape("M5 4h2v12H5zM16 4v12l-8-6z")}</button>
    <button type="button" aria-label="Next song">${shape("M13 4h2v12h-2zM4 4v12l8-6z")}</button>
    <audio controls preload="none" aria-label="Song"></audio></div>`;
  document.querySelector("main").after(deck);
  const [title, singers] = deck.querySelectorAll("strong, small");
  const [back, next] = deck.querySelectorAll("button");
  const audio = deck.querySelector("audio");
  let now = -1;

  const play = (index) => {
    if (index < 0 || index >= links.length) return;
    links[now]?.closest("li")?.classList.remove("now");
    now = index;
    const { title: name, singers: who, sources } = links[now].dataset;
    title.textContent = name;
    singers.textContent = who;
    audio.setAttribute("aria-label", name);
    audio.replaceChildren(...JSON.parse(sources).map(({ src, type }) => Object.assign(document.createElement("source"), { src, type })));
    audio.lastChild.addEventListener("error", () => {
      singers.textContent = "It could not be played.";
    });
    links[now].closest("li")?.classList.add("now");
    deck.hidden = false;
    back.disabled = now === 0;
    next.disabled = now === links.length - 1;
    audio.load();
    audio.play().catch(() => {}); // said by the source that failed, or a browser that waits for a press of play
  };

  links.forEach((link, index) => link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    play(index);
  }));
  back.addEventListener("click", () => play(now - 1));
  next.addEventListener("click", () => play(now + 1));
  audio.addEventListener("ended", () => play(now + 1));
  const all = document.querySelector(".play-all");
  if (all) {
    all.hidden = false;
    all.addEventListener("click", () => play(0));
  }
})();
