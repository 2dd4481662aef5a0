// A network that runs in the page, on a photograph that stays in the reader's browser. The box that
// the chapter holds says which; weights and photographs are scripts, so that a book opened from a
// disk can load them, and nothing is loaded before the reader asks for it.
(() => {
  const here = document.currentScript.src.replace(/[^/]*$/, ""); // the book's _static/
  const VIEW = 288; // the photograph on the page, in px
  const TILE = 44; // a filter or a map

  const load = (file) => new Promise((done, failed) => {
    if (document.querySelector(`script[data-live="${file}"]`)) return done();
    const script = document.createElement("script");
    script.dataset.live = file;
    script.onload = () => done();
    script.onerror = () => { script.remove(); failed(new Error(file)); };
    script.src = here + file;
    document.head.append(script);
  });

  // An element: make("p", { className: "x" }, "words", another)
  function make(tag, attributes = {}, ...inside) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes))
      if (name in element) element[name] = value;
      else element.setAttribute(name, value);
    element.append(...inside);
    return element;
  }

  function canvas(width, height, attributes) {
    const element = make("canvas", { width, height, ...attributes });
    return [element, element.getContext("2d", { willReadFrequently: true })];
  }

  function offer(box) {
    const { network, megabytes } = box.dataset;
    if (!megabytes) return; // a book without this record
    const button = make("button", { type: "button" }, `Load the network (${megabytes} MB)`);
    const said = make("p", { role: "status" });
    button.addEventListener("click", async () => {
      button.disabled = true;
      said.textContent = "Loading";
      try {
        await load("network.js");
        await Promise.all([load("live/photographs.js"), load(`live/${network}.js`)]);
      } catch (error) {
        button.disabled = false;
        said.textContent = `It could not be loaded: ${error.message} is missing. Try again.`;
        return;
      }
      box.replaceChildren();
      run(box, network);
    });
    box.append(button, said);
  }

  async function run(box, name) {
    const { networks, records, photographs, unpack, prepare, cover } = ilsvrcNetwork;
    const record = records[name];
    const weights = unpack(record);
    const size = record.size;
    const state = { image: null, seen: null, photograph: null, square: null, side: Math.round(size / 4) };

    // What the page shows

    const [view, paint] = canvas(VIEW, VIEW, {
      tabIndex: 0,
      role: "application",
      "aria-roledescription": "photograph with a movable square",
    });
    const credit = make("figcaption");
    const rows = record.classes.map((one) => {
      const [bar, number] = [make("span", { className: "bar" }), make("td")];
      return { bar, number, row: make("tr", {}, make("th", { scope: "row" }, one, bar), number) };
    });
    const table = make("table", {}, make("caption", {}, "What it says"), make("tbody", {}, ...rows.map((r) => r.row)));
    const speed = make("p", { className: "speed" });
    const said = make("p", { role: "status", className: "visually-hidden" });
    const fault = make("p", { role: "alert" });

    const first = Object.values(weights).find(({ shape }) => shape.length === 4);
    const count = first.shape[3];
    const columns = count > 16 ? 6 : 4;
    const [tiles, paintTiles] = canvas(columns * (2 * TILE + 10), Math.ceil(count / columns) * (TILE + 4), {
      role: "img",
      "aria-label": `The ${count} filters of the first layer, each beside its map of the photograph`,
    });
    const place = (map) => [(map % columns) * (2 * TILE + 10), Math.floor(map / columns) * (TILE + 4)];

    const side = make("input", { type: "range", min: 1, max: Math.round(size / 2), value: state.side });
    const coarse = make("input", { type: "checkbox" });
    const file = make("input", { type: "file", accept: "image/*" });
    const choices = photographs.map(({ name: title, source }) =>
      make("button", { type: "button", "aria-pressed": "false" }, make("img", { src: source, alt: title })));

    const help = make("p", { id: `live-${name}` },
      "Move the mouse over the photograph, or use the arrow keys on it: a grey square hides what it covers, and the " +
      "answer follows. Escape takes the square away.");
    view.setAttribute("aria-describedby", help.id);

    // Numbers to pictures

    const pictures = []; // one a map
    function picture(width, height, colour) {
      const [element, context] = canvas(width, height);
      const data = context.createImageData(width, height);
      return {
        element,
        fill(value) {
          for (let at = 0; at < width * height; at++) {
            for (let c = 0; c < 3; c++) data.data[4 * at + c] = value(at, colour ? c : 0);
            data.data[4 * at + 3] = 255;
          }
          context.putImageData(data, 0, 0);
          return this;
        },
      };
    }

    function drawFilters() {
      const [height, width] = first.shape;
      paintTiles.imageSmoothingEnabled = false;
      for (let map = 0; map < count; map++) {
        const value = (at, colour) => first.data[(at * 3 + colour) * count + map];
        let most = 0;
        for (let at = 0; at < height * width * 3; at++) most = Math.max(most, Math.abs(first.data[at * count + map]));
        const drawn = picture(width, height, true).fill((at, c) => 127.5 + (127.5 * value(at, c)) / most);
        paintTiles.drawImage(drawn.element, ...place(map), TILE, TILE);
      }
    }

    // Each map on a scale of its own, from black for nothing to white for its strongest place.
    function drawMaps({ height, width, data }) {
      for (let map = 0; map < count; map++) {
        let most = 1e-6;
        for (let at = map; at < data.length; at += count) most = Math.max(most, data[at]);
        pictures[map] ??= picture(width, height, false);
        const drawn = pictures[map].fill((at) => (255 * data[at * count + map]) / most);
        const [x, y] = place(map);
        paintTiles.drawImage(drawn.element, x + TILE + 2, y, TILE, TILE);
      }
    }

    function drawPhotograph() {
      const { square, photograph } = state;
      paint.imageSmoothingEnabled = !coarse.checked;
      if (coarse.checked) paint.drawImage(state.seen, 0, 0, VIEW, VIEW);
      else paint.drawImage(photograph, ...inside(photograph), 0, 0, VIEW, VIEW);
      if (!square) return;
      const [scale, half] = [VIEW / size, Math.floor(state.side / 2)];
      paint.fillStyle = `rgb(${record.mean.join(" ")})`;
      paint.fillRect((square.x - half) * scale, (square.y - half) * scale, state.side * scale, state.side * scale);
    }

    // The part of a photograph that the network sees: the middle of its middle square.
    function inside({ width, height }) {
      const whole = Math.min(width, height);
      const from = (Math.floor((record.stored - size) / 2) / record.stored) * whole;
      const part = (size / record.stored) * whole;
      return [(width - whole) / 2 + from, (height - whole) / 2 + from, part, part];
    }

    // What it says

    function answer() {
      const began = performance.now();
      const image = state.square ? cover(state.image, { ...state.square, side: state.side }) : state.image;
      const { first: maps, probabilities } = networks[name](image, weights);
      const took = performance.now() - began;
      speed.textContent = `One look took ${took.toFixed(0)} ms.`;
      box.dataset.took = took;
      const best = Math.max(...probabilities);
      rows.forEach(({ bar, number, row }, i) => {
        bar.style.width = `${100 * probabilities[i]}%`;
        number.textContent = `${(100 * probabilities[i]).toFixed(1)} %`;
        row.dataset.probability = probabilities[i];
        row.classList.toggle("best", probabilities[i] === best);
      });
      drawPhotograph();
      drawMaps(maps);
      later(probabilities);
    }

    // A screen reader hears the answer once the square has come to rest.
    let resting;
    function later(probabilities) {
      clearTimeout(resting);
      resting = setTimeout(() => {
        const order = probabilities.map((p, i) => [p, record.classes[i]]).sort((a, b) => b[0] - a[0]);
        const [one, two] = order.map(([p, title]) => `${title} ${(100 * p).toFixed(0)} %`);
        const at = state.square && `, the square at column ${state.square.x}, row ${state.square.y} of ${size}`;
        said.textContent = `${one}, then ${two}${at ?? ""}.`;
      }, 500);
    }

    let asked = 0;
    const again = () => { asked ||= requestAnimationFrame(() => { asked = 0; answer(); }); };

    async function look(blob, words, pressed = null) {
      let bitmap;
      try {
        bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
      } catch {
        fault.textContent = `${words} is no picture that this browser can read.`;
        return;
      }
      const shrunk = Math.min(1, 4096 / Math.max(bitmap.width, bitmap.height));
      const [whole, context] = canvas(Math.round(bitmap.width * shrunk), Math.round(bitmap.height * shrunk));
      context.drawImage(bitmap, 0, 0, whole.width, whole.height);
      const { image, pixels } = prepare(context.getImageData(0, 0, whole.width, whole.height), record);
      const seen = picture(size, size, true).fill((at, c) => pixels[3 * at + c]).element;
      Object.assign(state, { image, seen, photograph: whole, square: null });
      fault.textContent = "";
      credit.textContent = words;
      view.setAttribute("aria-label", words);
      choices.forEach((choice) => { choice.setAttribute("aria-pressed", choice === pressed); });
      answer();
    }

    // What the reader does

    const moveTo = ({ x, y }) => {
      const within = (value) => Math.max(0, Math.min(size - 1, Math.round(value)));
      state.square = { x: within(x), y: within(y) };
      again();
    };
    const point = (event) => {
      const { left, top, width, height } = view.getBoundingClientRect();
      const to = (at, from, length) => ((at - from) / length) * size - 0.5;
      moveTo({ x: to(event.clientX, left, width), y: to(event.clientY, top, height) });
    };
    const uncover = () => { state.square = null; again(); };
    view.addEventListener("pointerdown", point);
    view.addEventListener("pointermove", point);
    view.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") uncover(); });
    view.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-2, 0], ArrowRight: [2, 0], ArrowUp: [0, -2], ArrowDown: [0, 2] }[event.key];
      if (event.key === "Escape") uncover();
      if (!step) return;
      event.preventDefault(); // the page does not scroll
      const { x, y } = state.square ?? { x: size / 2, y: size / 2 };
      moveTo(state.square ? { x: x + step[0], y: y + step[1] } : { x, y });
    });
    side.addEventListener("input", () => { state.side = side.valueAsNumber; again(); });
    coarse.addEventListener("change", drawPhotograph);
    choices.forEach((choice, i) => choice.addEventListener("click", () => {
      const { source, credit: words } = photographs[i];
      const bytes = Uint8Array.from(atob(source.split(",")[1]), (letter) => letter.charCodeAt(0));
      look(new Blob([bytes], { type: "image/jpeg" }), words, choice);
    }));
    file.addEventListener("change", () => { if (file.files[0]) look(file.files[0], file.files[0].name); });
    box.addEventListener("dragover", (event) => { event.preventDefault(); box.classList.add("over"); });
    box.addEventListener("dragleave", () => box.classList.remove("over"));
    box.addEventListener("drop", (event) => {
      event.preventDefault();
      box.classList.remove("over");
      const [dropped] = event.dataTransfer.files;
      if (dropped) look(dropped, dropped.name);
    });

    box.append(
      make("p", {}, record.about),
      make("div", { className: "choices", role: "group", "aria-label": "Photographs" }, ...choices),
      make("p", {}, make("label", {}, "Your own, chosen here or dropped anywhere on this box; it stays in your browser: ", file)),
      fault,
      make("div", { className: "panes" }, make("figure", {}, view, credit), make("div", {}, table, speed)),
      help,
      make("p", {}, make("label", {}, "Side of the square ", side)),
      make("p", {}, make("label", {}, coarse, ` Show the ${size} x ${size} pixels that the network sees`)),
      make("figure", {}, tiles, make("figcaption", {},
        `The ${count} filters of the first layer. Beside each stands its map: white where the filter answers most.`)),
      said,
    );
    drawFilters();
    choices[0].click();
    view.focus({ preventScroll: true });
  }

  document.addEventListener("DOMContentLoaded", () =>
    document.querySelectorAll(".ilsvrc-live").forEach(offer)
  );
})();
