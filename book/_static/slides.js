// Slides: the arrow keys, space and Page Up and Down go from one to the next.
addEventListener("keydown", (event) => {
  const steps = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1 };
  const step = steps[event.key];
  if (!step || event.target.closest("summary, a, input")) return;
  event.preventDefault();
  const slides = [...document.querySelectorAll(".slides > section")];
  const here = Math.round(scrollY / innerHeight);
  slides[Math.min(Math.max(here + step, 0), slides.length - 1)].scrollIntoView();
});

// A table with more rows than a screen holds is drawn smaller.
for (const table of document.querySelectorAll(".slides section > div > table")) {
  const room = table.parentElement.clientHeight / table.offsetHeight;
  if (room < 1) table.style.zoom = room;
}

// On paper the answers stand open.
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
});
