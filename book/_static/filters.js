// Filters through training: a strip of pictures, one an epoch, becomes a slider over them.
function makeSlider(strip) {
  const frames = [...strip.querySelectorAll("figure")];
  const label = document.createElement("label");
  const said = document.createElement("output");
  const range = document.createElement("input");
  Object.assign(range, { type: "range", min: 0, max: frames.length - 1, value: frames.length - 1 });
  const show = () => {
    const current = frames[range.valueAsNumber];
    frames.forEach((frame) => frame.classList.toggle("shown", frame === current));
    said.textContent = current.querySelector("figcaption").textContent; // "epoch 12"
    range.setAttribute("aria-valuetext", said.textContent);
  };
  range.addEventListener("input", show);
  label.append("Filters at", said, range);
  strip.prepend(label);
  strip.classList.add("live");
  show();
}

document.addEventListener("DOMContentLoaded", () =>
  document.querySelectorAll(".ilsvrc-filters").forEach(makeSlider)
);
