// Two of the book's networks in plain JavaScript: what their chapters' Keras models compute.
//
// Maps are { height, width, maps, data }, the numbers in Keras' order: row, column, map. A weight is
// { shape, data }, named as in its record: "conv1/kernel". All data are Float32Array.
globalThis.ilsvrcNetwork = (() => {
  const blank = (height, width, maps) =>
    ({ height, width, maps, data: new Float32Array(height * width * maps) });

  // Layers

  // A convolution, place by place: the inputs under the kernel, times the kernel's columns.
  function convolve(x, kernel, { bias = null, stride = 1, pad = 0, groups = 1 } = {}) {
    const [size, , depth, maps] = kernel.shape; // depth: the inputs that a group sees
    const side = (length) => Math.floor((length + 2 * pad - size) / stride) + 1;
    const y = blank(side(x.height), side(x.width), maps);
    const columns = maps / groups;
    const inputs = { value: new Float32Array(size * size * depth), row: new Int32Array(size * size * depth) };
    for (let down = 0; down < y.height; down++)
      for (let along = 0; along < y.width; along++)
        for (let group = 0; group < groups; group++) {
          const [top, left] = [down * stride - pad, along * stride - pad];
          const count = gather(x, top, left, group * depth, kernel, inputs);
          const place = (down * y.width + along) * maps + group * columns;
          multiply(inputs, count, kernel.data, group * columns, y.data, place, columns);
        }
    return bias ? perMap(y, (value, map) => value + bias.data[map]) : y;
  }

  // Collect the inputs under the kernel that are not zero, as after a ReLU half of them are, and
  // where in the kernel the row of each begins. Outside the image all are zero.
  function gather(x, top, left, first, { shape: [size, , depth, maps] }, { value, row }) {
    let count = 0;
    for (let i = Math.max(0, -top); i < Math.min(size, x.height - top); i++)
      for (let j = Math.max(0, -left); j < Math.min(size, x.width - left); j++) {
        const from = ((top + i) * x.width + left + j) * x.maps + first;
        const to = (i * size + j) * depth;
        for (let map = 0; map < depth; map++)
          if (x.data[from + map] !== 0) {
            value[count] = x.data[from + map];
            row[count++] = (to + map) * maps;
          }
      }
    return count;
  }

  // A row times a matrix, eight columns at a time: their sums stay in the processor's registers.
  function multiply({ value, row }, count, matrix, first, y, place, columns) {
    let column = 0;
    for (; column + 8 <= columns; column += 8) {
      let a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0;
      for (let i = 0; i < count; i++) {
        const x = value[i], at = row[i] + first + column;
        a += x * matrix[at];
        b += x * matrix[at + 1];
        c += x * matrix[at + 2];
        d += x * matrix[at + 3];
        e += x * matrix[at + 4];
        f += x * matrix[at + 5];
        g += x * matrix[at + 6];
        h += x * matrix[at + 7];
      }
      y.set([a, b, c, d, e, f, g, h], place + column);
    }
    for (; column < columns; column++)
      for (let i = 0; i < count; i++) y[place + column] += value[i] * matrix[row[i] + first + column];
  }

  // The maximum of 3 x 3 places, two apart; a border around the image never wins.
  function pool(x, pad = 0) {
    const side = (length) => Math.floor((length + 2 * pad - 3) / 2) + 1;
    const y = blank(side(x.height), side(x.width), x.maps);
    y.data.fill(-Infinity);
    for (let down = 0; down < y.height; down++)
      for (let along = 0; along < y.width; along++)
        for (let i = 2 * down - pad; i < 2 * down - pad + 3; i++)
          for (let j = 2 * along - pad; j < 2 * along - pad + 3; j++) {
            if (i < 0 || j < 0 || i >= x.height || j >= x.width) continue;
            const [from, to] = [(i * x.width + j) * x.maps, (down * y.width + along) * y.maps];
            for (let map = 0; map < x.maps; map++)
              if (x.data[from + map] > y.data[to + map]) y.data[to + map] = x.data[from + map];
          }
    return y;
  }

  // AlexNet's local response normalisation: a / (k + alpha * sum of a^2 over n maps) ** beta.
  function localNorm(x, alpha, k = 2, n = 5, beta = 0.75) {
    return perMap(x, (value, map, at) => {
      let energy = 0;
      for (let other = Math.max(0, map - 2); other <= Math.min(x.maps - 1, map + 2); other++)
        energy += x.data[at + other - map] ** 2;
      return value / (k + alpha * energy) ** beta;
    });
  }

  function batchNorm(x, gamma, beta, mean, variance, epsilon = 1e-5) {
    const scale = gamma.data.map((value, map) => value / Math.sqrt(variance.data[map] + epsilon));
    return perMap(x, (value, map) => (value - mean.data[map]) * scale[map] + beta.data[map]);
  }

  function perMap(x, change) {
    const y = blank(x.height, x.width, x.maps);
    for (let at = 0; at < x.data.length; at++) y.data[at] = change(x.data[at], at % x.maps, at);
    return y;
  }

  const relu = (x) => perMap(x, (value) => Math.max(0, value));
  const add = (x, other) => perMap(x, (value, map, at) => value + other.data[at]);

  function average(x) {
    const y = blank(1, 1, x.maps);
    x.data.forEach((value, at) => { y.data[at % x.maps] += value / (x.height * x.width); });
    return y;
  }

  // Every number with every unit: a convolution of one place.
  function dense(x, kernel, bias) {
    const flat = { height: 1, width: 1, maps: x.data.length, data: x.data };
    return convolve(flat, { shape: [1, 1, ...kernel.shape], data: kernel.data }, { bias });
  }

  function softmax({ data }) {
    const powers = [...data].map((logit) => Math.exp(logit - Math.max(...data)));
    const sum = powers.reduce((a, b) => a + b);
    return powers.map((power) => power / sum);
  }

  // Networks: of an image and weights, the first layer's maps and the probabilities

  const GREY_LEVELS = 58; // the unit of pixels in both chapters' `fit`

  const networks = {
    "2012_alexnet"(image, weights) {
      const conv = (x, i, options) =>
        relu(convolve(x, weights[`conv${i}/kernel`], { bias: weights[`conv${i}/bias`], ...options }));
      const norm = (x) => localNorm(x, 1e-4 * GREY_LEVELS ** 2);
      const hidden = (x, i) => dense(x, weights[`dense${i}/kernel`], weights[`dense${i}/bias`]);
      const first = conv(image, 1, { stride: 4 });
      let x = pool(norm(first));
      x = pool(norm(conv(x, 2, { pad: 2, groups: 2 })));
      x = conv(x, 3, { pad: 1 });
      x = conv(x, 4, { pad: 1, groups: 2 });
      x = pool(conv(x, 5, { pad: 1, groups: 2 }));
      x = relu(hidden(relu(hidden(x, 6)), 7));
      return { first, probabilities: softmax(hidden(x, 8)) };
    },

    "2015_resnet"(image, weights) {
      const convNorm = (x, name, stride = 1) => {
        const kernel = weights[`${name}/kernel`];
        const pad = Math.floor(kernel.shape[0] / 2);
        const of = ["gamma", "beta", "moving_mean", "moving_variance"];
        return batchNorm(convolve(x, kernel, { stride, pad }), ...of.map((n) => weights[`${name}_bn/${n}`]));
      };
      const first = relu(convNorm(image, "conv1", 2));
      let x = pool(first, 1);
      for (let stage = 2; stage <= 5; stage++)
        for (let i = 1; `conv${stage}_${i}_1/kernel` in weights; i++) {
          const name = `conv${stage}_${i}`;
          const stride = stage > 2 && i === 1 ? 2 : 1;
          const learned = convNorm(relu(convNorm(x, `${name}_1`, stride)), `${name}_2`);
          const projects = `${name}_shortcut/kernel` in weights;
          x = relu(add(learned, projects ? convNorm(x, `${name}_shortcut`, stride) : x));
        }
      return { first, probabilities: softmax(dense(average(x), weights["dense/kernel"], weights["dense/bias"])) };
    },
  };

  // What goes in

  // The weights of a record, one array after the other, in base64: whole numbers of 8 bits times the
  // scale of their filter, which is their last axis, or numbers of 32 bits.
  function unpack({ arrays, weights }) {
    const bytes = Uint8Array.from(atob(weights), (letter) => letter.charCodeAt(0)).buffer;
    let at = 0;
    return Object.fromEntries(arrays.map(([name, shape, scales]) => {
      const size = shape.reduce((a, b) => a * b);
      const end = at + size * (scales ? 1 : 4);
      const stored = new (scales ? Int8Array : Float32Array)(bytes.slice(at, end));
      at = end;
      const scale = (i) => (scales ? scales[i % scales.length] : 1);
      return [name, { shape, data: Float32Array.from(stored, (number, i) => number * scale(i)) }];
    }));
  }

  const ONE = 2 ** 22; // Pillow resizes in whole numbers, of which these are one

  // The middle square of an ImageData at `side` px, as Pillow's `ImageOps.fit` with its bilinear
  // filter makes it: a triangle over the pixels that one new pixel stands for, rounded after each way.
  function square({ data, width, height }, side) {
    const length = Math.min(width, height);
    const across = triangles((width - length) / 2, length, side, width);
    const down = triangles((height - length) / 2, length, side, height);
    const rows = new Uint8ClampedArray(height * side * 3);
    for (let y = 0; y < height; y++)
      across.forEach(({ first, shares }, x) => {
        for (let colour = 0; colour < 3; colour++) {
          let sum = ONE / 2;
          for (let i = 0; i < shares.length; i++)
            sum += shares[i] * data[(y * width + first + i) * 4 + colour];
          rows[(y * side + x) * 3 + colour] = Math.floor(sum / ONE);
        }
      });
    const pixels = new Uint8ClampedArray(side * side * 3);
    down.forEach(({ first, shares }, y) => {
      for (let x = 0; x < side * 3; x++) {
        let sum = ONE / 2;
        for (let i = 0; i < shares.length; i++) sum += shares[i] * rows[(first + i) * side * 3 + x];
        pixels[y * side * 3 + x] = Math.floor(sum / ONE);
      }
    });
    return pixels;
  }

  function triangles(from, length, side, end) {
    const scale = length / side;
    const reach = Math.max(scale, 1);
    return Array.from({ length: side }, (_, i) => {
      const centre = from + (i + 0.5) * scale;
      const first = Math.max(0, Math.floor(centre - reach + 0.5));
      const last = Math.min(end, Math.floor(centre + reach + 0.5));
      const shares = Array.from({ length: last - first }, (_, x) =>
        Math.max(0, 1 - Math.abs(first + x + 0.5 - centre) / reach));
      const sum = shares.reduce((a, b) => a + b);
      return { first, shares: shares.map((share) => Math.round((ONE * share) / sum)) };
    });
  }

  // A photograph as a network sees it at test time: the middle of its middle square, the mean of the
  // training images taken off. Returns that image and its pixels, (size, size, 3) in 0..255.
  function prepare(photograph, { size, stored, mean }) {
    const whole = square(photograph, stored);
    const from = Math.floor((stored - size) / 2);
    const image = blank(size, size, 3);
    const pixels = new Uint8ClampedArray(image.data.length);
    for (let at = 0; at < pixels.length; at++) {
      const [y, x, colour] = [Math.floor(at / 3 / size), Math.floor(at / 3) % size, at % 3];
      pixels[at] = whole[((from + y) * stored + from + x) * 3 + colour];
      image.data[at] = (pixels[at] - mean[colour]) / GREY_LEVELS;
    }
    return { image, pixels };
  }

  // An image with a square of the training images' mean colour, a grey, around one of its pixels.
  function cover(image, { x, y, side }) {
    const covered = { ...image, data: image.data.slice() };
    const from = (centre) => Math.max(0, centre - Math.floor(side / 2));
    const to = (centre, end) => Math.min(end, centre - Math.floor(side / 2) + side);
    for (let row = from(y); row < to(y, image.height); row++)
      covered.data.fill(0, (row * image.width + from(x)) * 3, (row * image.width + to(x, image.width)) * 3);
    return covered;
  }

  return { networks, unpack, prepare, cover, records: {}, photographs: [] };
})();
