// What an image goes through before the network, to the bit as densenet/preprocess.py has it, that is as Pillow and NumPy
// compute it: no canvas resizes here, since theirs are of other filters.  Pixels are bytes (height, width, channels).

const BITS = 22; // of a weight's fraction: libImaging/Resample.c, PRECISION_BITS
const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(1 - Math.abs(x), 0) },
  bicubic: {
    support: 2,
    weight(x) {
      const a = -0.5, t = Math.abs(x);
      if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
      return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
    },
  },
};

// Python's round(): halves go to the even neighbour.
function roundEven(x) {
  const low = Math.floor(x);
  if (x - low !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}

// Height and width of an image of these after resizing.
function resizedSize(steps, height, width) {
  if (steps.resize === null) return [height, width];
  if (Array.isArray(steps.resize)) return steps.resize;
  const long = Math.trunc((steps.resize * Math.max(height, width)) / Math.min(height, width));
  return width <= height ? [long, steps.resize] : [steps.resize, long];
}

// Where each new pixel of an axis begins to read, and the weights of what it reads (libImaging/Resample.c).
function resampling(old, size, filter) {
  const scale = old / size, stretch = Math.max(scale, 1), support = filter.support * stretch;
  return Array.from({ length: size }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), old);
    const weights = [];
    let total = 0;
    for (let at = start; at < end; at++) {
      const weight = filter.weight((at - centre + 0.5) * (1 / stretch));
      weights.push(weight);
      total += weight;
    }
    const whole = weights.map((w) => {
      const part = (total !== 0 ? w / total : w) * (1 << BITS);
      return Math.trunc(part + (part < 0 ? -0.5 : 0.5));
    });
    return { start, weights: whole };
  });
}

// The pixels along one axis: lines of so many values apart, read at steps.
function resampled(pixels, height, width, channels, size, axis, filter) {
  const old = axis ? width : height;
  const [newHeight, newWidth] = axis ? [height, size] : [size, width];
  const places = resampling(old, size, filter);
  const result = new Uint8ClampedArray(newHeight * newWidth * channels);
  const step = axis ? channels : width * channels;
  for (let y = 0; y < newHeight; y++) {
    for (let x = 0; x < newWidth; x++) {
      const { start, weights } = places[axis ? x : y];
      const from = axis ? (y * width + start) * channels : (start * width + x) * channels;
      for (let c = 0; c < channels; c++) {
        let sum = 1 << (BITS - 1);
        for (let i = 0, at = from + c; i < weights.length; i++, at += step) sum += pixels[at] * weights[i];
        result[(y * newWidth + x) * channels + c] = Math.floor(sum / (1 << BITS));
      }
    }
  }
  return result;
}

// Pillow's nearest adds up its places (libImaging/Geometry.c), and so does this.
function nearest(pixels, height, width, channels, newHeight, newWidth) {
  const places = (old, size) => {
    const step = old / size, result = [];
    for (let i = 0, at = step * 0.5; i < size; i++, at += step) result.push(Math.trunc(at));
    return result;
  };
  const columns = places(width, newWidth), result = new Uint8ClampedArray(newHeight * newWidth * channels);
  let to = 0;
  for (const y of places(height, newHeight)) {
    for (const x of columns) {
      for (let c = 0; c < channels; c++) result[to++] = pixels[(y * width + x) * channels + c];
    }
  }
  return result;
}

// cv2.resize with INTER_LINEAR: two pixels an axis, weights of 1/2048, low bits dropped between the passes.
function likeOpenCV(pixels, height, width, channels, newHeight, newWidth) {
  const axis = (old, size) =>
    Array.from({ length: size }, (_, i) => {
      const at = Math.fround((i + 0.5) * (old / size) - 0.5), low = Math.floor(at), part = Math.fround(at - low);
      const weights = [roundEven(Math.fround(1 - part) * 2048), roundEven(part * 2048)];
      return { at: [low, low + 1].map((place) => Math.min(Math.max(place, 0), old - 1)), weights };
    });
  const columns = axis(width, newWidth), result = new Uint8ClampedArray(newHeight * newWidth * channels);
  let to = 0;
  for (const row of axis(height, newHeight)) {
    for (const column of columns) {
      for (let c = 0; c < channels; c++) {
        let total = 0;
        row.at.forEach((y, i) => {
          const [left, right] = column.at.map((x) => pixels[(y * width + x) * channels + c]);
          const sum = (left * column.weights[0] + right * column.weights[1]) >> 4;
          total += (sum * row.weights[i]) >> 16;
        });
        result[to++] = (total + 2) >> 2;
      }
    }
  }
  return result;
}

function resize(pixels, height, width, steps) {
  const [newHeight, newWidth] = resizedSize(steps, height, width), channels = steps.channels;
  if (newHeight === height && newWidth === width) return { pixels, height, width };
  const done = (values) => ({ pixels: values, height: newHeight, width: newWidth });
  if (!steps.antialias) return done(likeOpenCV(pixels, height, width, channels, newHeight, newWidth));
  if (steps.interpolation === "nearest") return done(nearest(pixels, height, width, channels, newHeight, newWidth));
  const filter = FILTERS[steps.interpolation];
  if (newWidth !== width) pixels = resampled(pixels, height, width, channels, newWidth, 1, filter);
  if (newHeight !== height) pixels = resampled(pixels, height, newWidth, channels, newHeight, 0, filter);
  return done(pixels);
}

// Where the crop begins in a resized image; below zero where that is smaller, and gets a black border.
function cropStart(have, want) {
  return have >= want ? roundEven((have - want) / 2) : -Math.floor((want - have) / 2);
}

// RGBA as a canvas gives it to the bytes of the network's channels; grey is Pillow's convert("L").
function channelsOf(rgba, channels) {
  const count = rgba.length / 4, result = new Uint8ClampedArray(count * channels);
  for (let i = 0, from = 0; i < count; i++, from += 4) {
    if (channels === 1) {
      result[i] = (rgba[from] * 19595 + rgba[from + 1] * 38470 + rgba[from + 2] * 7471 + 0x8000) >> 16;
    } else {
      for (let c = 0; c < 3; c++) result[3 * i + c] = rgba[from + c];
    }
  }
  return result;
}

// An image as the network takes it: float32 (channels, *crop).
function prepared(rgba, height, width, steps) {
  const image = resize(channelsOf(rgba, steps.channels), height, width, steps);
  const [high, wide] = steps.crop, channels = steps.channels, result = new Float32Array(channels * high * wide);
  const top = cropStart(image.height, high), left = cropStart(image.width, wide);
  for (let c = 0; c < channels; c++) {
    const mean = Math.fround(steps.mean[c]), std = Math.fround(steps.std[c]);
    const from = steps.order === "bgr" ? channels - 1 - c : c;
    for (let y = 0; y < high; y++) {
      for (let x = 0; x < wide; x++) {
        const row = y + top, column = x + left;
        const inside = row >= 0 && row < image.height && column >= 0 && column < image.width;
        const value = inside ? image.pixels[(row * image.width + column) * channels + from] : 0;
        result[(c * high + y) * wide + x] = Math.fround(Math.fround(value / 255) - mean) / std;
      }
    }
  }
  return result;
}

// Why an image's answer here would be another than that of densenet predict; empty if it is not.
function refusal(bytes) {
  const is = (at, ...values) => values.every((value, i) => bytes[at + i] === value);
  if (is(0, 0x89, 0x50, 0x4e, 0x47) && bytes[24] === 16) {
    return "its values have 16 bits, and browsers keep 8; densenet predict reads it";
  }
  for (let at = 2; is(0, 0xff, 0xd8) && at + 9 < bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1];
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return bytes[at + 9] === 4 ? "its colours are CMYK, which every browser shows its own way; densenet predict reads it" : "";
    }
    if (marker === 0xff) at += 1;
    else if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)) at += 2;
    else at += 2 + bytes[at + 2] * 256 + bytes[at + 3];
  }
  return "";
}
