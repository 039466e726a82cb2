"use strict";

// Shows a list of crops a page at a time. Without this script all of them are there.
function addPages(list) {
  const items = [...list.children];
  const size = Number(list.dataset.pageSize);
  const noun = list.dataset.noun;
  if (items.length <= size) return;
  const bar = document.createElement("div");
  bar.className = "pager";
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", `${list.dataset.name}: pages`);
  const status = document.createElement("p");
  status.setAttribute("role", "status");
  status.setAttribute("aria-live", "polite");
  let first = 0;

  const button = (text, what, step) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.setAttribute("aria-label", `${list.dataset.name}: ${what} ${noun}`);
    made.addEventListener("click", () => {
      const next = first + step;
      if (next >= 0 && next < items.length) show(next);
    });
    return made;
  };
  const back = button("Previous", "previous", -size);
  const on = button("Next", "next", size);

  function show(start) {
    first = start;
    items.forEach((item, place) => {
      item.hidden = place < first || place >= first + size;
    });
    const last = Math.min(first + size, items.length);
    status.textContent = `${noun} ${first + 1} to ${last} of ${items.length}`;
    // Not `disabled`: that would take the keyboard's focus away.
    back.setAttribute("aria-disabled", String(first === 0));
    on.setAttribute("aria-disabled", String(last === items.length));
  }

  bar.append(back, on, status);
  list.before(bar);
  show(0);
}

document.querySelectorAll("[data-page-size]").forEach(addPages);

// Paper cannot be unfolded.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => folded.forEach((part) => { part.open = false; }));
