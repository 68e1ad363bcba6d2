// What each stage of a model keeps over many windows: stage_table and planes of measures.py.

/**
 * Windows of ids (W, T), and where their W T characters stand in what is computed: position after
 * position, first of the windows on which probes are fitted, then of the others.
 * @typedef {object} Layout
 * @property {number[][]} ids
 * @property {number} T
 * @property {number} N
 * @property {number} cut how many windows are for fitting
 * @property {number[]} starts positions at which the characters of a probe begin or end
 * @property {(window: number, t: number) => number} place
 */
/**
 * What a stage passes on: `columns` of N, a constant one last, and in `unseen` the rows on which
 * probes are asked.
 * @typedef {{ columns: Float64Array[], unseen: Float64Array[] }} Stage
 */
/** @typedef {{ x: Float64Array, y: Float64Array }} Plane */

const BACK = [0, 1, 2, 4, 8, 16]; // characters back that a probe is asked for
export const PROBES = ["next", ...BACK.map((k) => (k ? `${k} back` : "current"))];
const OFFSETS = [1, ...BACK.map((k) => -k)]; // where the character that is asked for stands
const RIDGE = 1e-3;
const NOTHING = 1e-12; // a share of variance that is but the rounding of 32 bits

/**
 * @param {number[][]} ids
 * @returns {Layout}
 */
function layOut(ids) {
  const [W, T] = [ids.length, ids[0].length];
  const cut = Math.floor(3 * W / 4);
  const starts = [...new Set([...BACK, T - 1])].filter((t) => t < T).sort((a, b) => a - b);
  const place = (/** @type {number} */ window, /** @type {number} */ t) =>
    (window < cut ? t * cut + window : T * cut + t * (W - cut) + window - cut);
  return { ids, T, N: W * T, cut, starts, place };
}

/**
 * What each stage passes on over the windows.
 * @param {any} model
 * @param {Layout} layout
 * @returns {Record<string, Stage>}
 */
function stageRows(model, { ids, T, N, cut, place }) {
  /** @type {Record<string, Stage>} */
  const stages = {};
  ids.forEach((window, index) => {
    const seen = /** @type {any} */ ({});
    model.forward(window, { seen });
    for (const [name, values] of Object.entries(seen.residual)) {
      const width = values.length / T;
      stages[name] ??= zeros(width, N, N - T * cut);
      const { columns, unseen } = stages[name];
      for (let t = 0; t < T; t += 1) {
        const at = place(index, t);
        for (let i = 0; i < width; i += 1) columns[i][at] = values[t * width + i];
        if (index >= cut) unseen[at - T * cut].set(values.subarray(t * width, (t + 1) * width));
      }
    }
  });
  return stages;
}

/**
 * A stage of zeros, with its constant.
 * @param {number} width
 * @param {number} N
 * @param {number} unseen how many rows
 * @returns {Stage}
 */
function zeros(width, N, unseen) {
  const columns = Array.from({ length: width + 1 }, () => new Float64Array(N));
  columns[width].fill(1);
  const row = new Float64Array(width + 1).fill(1, width);
  return { columns, unseen: Array.from({ length: unseen }, () => row.slice()) };
}

/**
 * The product of each of a with each of b from one place to another, (a, b). Two by four at a time,
 * plainly named, so that the sums stay in registers; of a with itself each pair once.
 * @param {Float64Array[]} a
 * @param {Float64Array[]} b
 * @param {number} from
 * @param {number} to
 */
function products(a, b, from, to) {
  const [n, m] = [a.length, b.length];
  const out = new Float64Array(n * m);
  for (let i = 0; i < n; i += 2) {
    const x = a[i];
    const z = a[Math.min(i + 1, n - 1)];
    for (let j = a === b ? i - i % 4 : 0; j < m; j += 4) {
      const y0 = b[j];
      const y1 = b[Math.min(j + 1, m - 1)];
      const y2 = b[Math.min(j + 2, m - 1)];
      const y3 = b[Math.min(j + 3, m - 1)];
      let p0 = 0;
      let p1 = 0;
      let p2 = 0;
      let p3 = 0;
      let q0 = 0;
      let q1 = 0;
      let q2 = 0;
      let q3 = 0;
      for (let k = from; k < to; k += 1) {
        const p = x[k];
        const q = z[k];
        const u0 = y0[k];
        const u1 = y1[k];
        const u2 = y2[k];
        const u3 = y3[k];
        p0 += p * u0;
        p1 += p * u1;
        p2 += p * u2;
        p3 += p * u3;
        q0 += q * u0;
        q1 += q * u1;
        q2 += q * u2;
        q3 += q * u3;
      }
      const at = i * m + j;
      const under = at + (i + 1 < n ? m : 0); // of an odd number the last stands twice
      out[under] = q0;
      out[at] = p0;
      if (j + 1 < m) {
        out[under + 1] = q1;
        out[at + 1] = p1;
      }
      if (j + 2 < m) {
        out[under + 2] = q2;
        out[at + 2] = p2;
      }
      if (j + 3 < m) {
        out[under + 3] = q3;
        out[at + 3] = p3;
      }
    }
  }
  if (a === b) {
    for (let i = 0; i < n; i += 1) for (let j = 0; j < i; j += 1) out[i * m + j] = out[j * m + i];
  }
  return out;
}

/**
 * The values, falling, and vectors of a symmetric matrix: Householder's reflections make it
 * tridiagonal, implicit QL steps diagonal (Golub and Van Loan, 8.3).
 * @param {Float64Array[]} matrix
 * @returns {{ values: number[], vectors: Float64Array[] }}
 */
export function eigen(matrix) {
  const n = matrix.length;
  const A = matrix.map((row) => row.slice());
  const vectors = Array.from({ length: n }, (_, i) => new Float64Array(n).fill(1, i, i + 1));
  for (let k = 0; k < n - 2; k += 1) reflect(A, k, vectors);
  const d = Float64Array.from(vectors, (_, i) => A[i][i]);
  const e = Float64Array.from(vectors, (_, i) => (i < n - 1 ? A[i + 1][i] : 0));
  const largest = d.reduce((most, _, i) => Math.max(most, Math.abs(d[i]) + Math.abs(e[i])), 0);
  for (let low = 0; low < n; low += 1) {
    for (;;) {
      let high = low;
      while (high < n - 1 && Math.abs(e[high]) > Number.EPSILON * largest) high += 1;
      if (high === low) break;
      chase(d, e, low, high, vectors);
    }
  }
  const order = [...d.keys()].sort((a, b) => d[b] - d[a]);
  return { values: order.map((i) => d[i]), vectors: order.map((i) => vectors[i]) };
}

/**
 * Clear column and row k of A beyond their second place, and turn the vectors with it.
 * @param {Float64Array[]} A
 * @param {number} k
 * @param {Float64Array[]} vectors
 */
function reflect(A, k, vectors) {
  const n = A.length;
  const v = new Float64Array(n); // the mirror's normal
  for (let i = k + 1; i < n; i += 1) v[i] = A[i][k];
  v[k + 1] += (v[k + 1] < 0 ? -1 : 1) * Math.sqrt(dot(v, v));
  const length = Math.sqrt(dot(v, v));
  if (!length) return;
  for (let i = k + 1; i < n; i += 1) v[i] /= length;
  const w = Float64Array.from(v, (_, i) => 2 * dot(A[i], v));
  const both = dot(v, w);
  for (let i = 0; i < n; i += 1) w[i] -= both * v[i];
  for (let i = k; i < n; i += 1) {
    for (let j = k; j < n; j += 1) A[i][j] -= v[i] * w[j] + w[i] * v[j];
  }
  const shadow = new Float64Array(n);
  for (let i = k + 1; i < n; i += 1) add(shadow, vectors[i], 2 * v[i]);
  for (let i = k + 1; i < n; i += 1) add(vectors[i], shadow, -v[i]);
}

/**
 * One implicit QL step on rows low to high of a tridiagonal matrix, d beside e.
 * @param {Float64Array} d
 * @param {Float64Array} e
 * @param {number} low
 * @param {number} high
 * @param {Float64Array[]} vectors
 */
function chase(d, e, low, high, vectors) {
  const g0 = (d[low + 1] - d[low]) / (2 * e[low]);
  let g = d[high] - d[low] + e[low] / (g0 + (g0 < 0 ? -1 : 1) * Math.sqrt(g0 * g0 + 1));
  let [sine, cosine, shift] = [1, 1, 0];
  for (let i = high - 1; i >= low; i -= 1) {
    const f = sine * e[i];
    const b = cosine * e[i];
    const r = Math.sqrt(f * f + g * g);
    e[i + 1] = r;
    if (!r) { // it falls apart here
      d[i + 1] -= shift;
      e[high] = 0;
      return;
    }
    sine = f / r;
    cosine = g / r;
    g = d[i + 1] - shift;
    const turn = (d[i] - g) * sine + 2 * cosine * b;
    shift = sine * turn;
    d[i + 1] = g + shift;
    g = cosine * turn - b;
    const [below, above] = [vectors[i], vectors[i + 1]];
    for (let k = 0; k < below.length; k += 1) {
      const [x, y] = [below[k], above[k]];
      above[k] = sine * x + cosine * y;
      below[k] = cosine * x - sine * y;
    }
  }
  d[low] -= shift;
  e[low] = g;
  e[high] = 0;
}

/**
 * @param {Float64Array} a
 * @param {Float64Array} b
 */
function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += a[i] * b[i];
  return sum;
}

/**
 * Add to a vector a multiple of another.
 * @param {Float64Array} to
 * @param {Float64Array} vector
 * @param {number} times
 */
function add(to, vector, times) {
  for (let i = 0; i < to.length; i += 1) to[i] += times * vector[i];
}

/**
 * The solution X (n, m) of S X = B for a symmetric, positive S (n, n), in rows: by Cholesky's
 * factor. B is used up.
 * @param {Float64Array} S
 * @param {Float64Array[]} B
 */
function solve(S, B) {
  const n = B.length;
  const L = B.map((_, i) => S.slice(i * n, (i + 1) * n));
  for (let i = 0; i < n; i += 1) {
    for (let j = 0; j <= i; j += 1) {
      const rest = L[i][j] - dot(L[i].subarray(0, j), L[j]);
      L[i][j] = i === j ? Math.sqrt(rest) : rest / L[j][j];
    }
  }
  for (let i = 0; i < n; i += 1) {
    for (let j = 0; j < i; j += 1) add(B[i], B[j], -L[i][j]);
    scale(B[i], 1 / L[i][i]);
  }
  for (let i = n - 1; i >= 0; i -= 1) {
    for (let j = i + 1; j < n; j += 1) add(B[i], B[j], -L[j][i]);
    scale(B[i], 1 / L[i][i]);
  }
  return B;
}

/**
 * @param {Float64Array} vector
 * @param {number} times
 */
function scale(vector, times) {
  for (let i = 0; i < vector.length; i += 1) vector[i] *= times;
}

/**
 * Sums of products (n, m) over N rows, of which the last are with a constant, as sums of what
 * differs from the mean, (n - 1, m - 1) in rows.
 * @param {Float64Array} sums
 * @param {number} m
 * @returns {Float64Array[]}
 */
function centred(sums, m) {
  const n = sums.length / m;
  const last = sums.subarray((n - 1) * m);
  const N = last[m - 1];
  return Array.from({ length: n - 1 }, (_, i) => Float64Array.from(
    { length: m - 1 }, (__, j) => sums[i * m + j] - sums[i * m + m - 1] * last[j] / N));
}

/**
 * How often a ridge regression finds the labels of rows that it was not fitted on; null if none has
 * a label.
 * @param {Stage} stage
 * @param {Float64Array[]} sums of products over the rows of each part of the layout
 * @param {number} offset
 * @param {Layout} layout
 */
function probe({ columns, unseen }, sums, offset, { ids, T, N, cut, starts, place }) {
  const n = columns.length;
  const [first, end] = [Math.max(0, -offset), Math.min(T, T - offset)];
  if (first >= end) return null;
  const labels = new Int32Array(N).fill(-1);
  ids.forEach((window, index) => {
    for (let t = first; t < end; t += 1) labels[place(index, t)] = window[t + offset];
  });
  const classes = 1 + labels.reduce((a, b) => Math.max(a, b), -1);
  const square = new Float64Array(n * n);
  starts.forEach((start, part) => {
    if (start >= first && start < end) add(square, sums[part], 1);
  });
  for (let i = 0; i < n; i += 1) square[i * n + i] += RIDGE * (end - first) * cut;
  const found = solve(square, columns.map((column) => {
    const byLabel = new Float64Array(classes);
    for (let at = first * cut; at < end * cut; at += 1) byLabel[labels[at]] += column[at];
    return byLabel;
  }));
  const weights = Array.from(
    { length: classes }, (_, label) => Float64Array.from(found, (row) => row[label]));
  const scores = products(unseen, weights, 0, n);
  let [asked, right] = [0, 0];
  labels.subarray(T * cut).forEach((label, row) => {
    if (label < 0) return;
    const own = scores.subarray(row * classes, (row + 1) * classes);
    asked += 1;
    if (own.indexOf(own.reduce((a, b) => Math.max(a, b))) === label) right += 1;
  });
  return right / asked;
}

/**
 * What every probe finds in a stage.
 * @param {Stage} stage
 * @param {Float64Array[]} sums
 * @param {Layout} layout
 * @returns {Record<string, number | null>}
 */
const probes = (stage, sums, layout) => Object.fromEntries(
  OFFSETS.map((offset, index) => [PROBES[index], probe(stage, sums, offset, layout)]));

/**
 * Sums of products over the rows for fitting, in the parts of the layout.
 * @param {Stage} stage
 * @param {Layout} layout
 */
const fitting = ({ columns }, { T, cut, starts }) => starts.map((start, part) =>
  products(columns, columns, start * cut, (starts[part + 1] ?? T) * cut));

/**
 * Shares of variance along the principal components, falling.
 * @param {number[]} values
 * @param {number} N
 */
function spectrum(values, N) {
  const positive = values.slice(0, N).map((value) => Math.max(value, 0));
  const total = positive.reduce((a, b) => a + b, 0) || 1;
  return positive.map((value) => value / total);
}

/**
 * The squares of all numbers of a matrix, added.
 * @param {Float64Array[]} matrix
 */
const squares = (matrix) => matrix.reduce((sum, row) => sum + dot(row, row), 0);

/**
 * The rows on their first two principal components, turned or mirrored to lie on the plane before
 * as well as they can.
 * @param {Stage} stage
 * @param {Float64Array[]} vectors
 * @param {Plane | null} before
 * @returns {Plane}
 */
function plane({ columns }, vectors, before) {
  const N = columns[0].length;
  const axis = (/** @type {Float64Array | undefined} */ vector) => {
    const along = new Float64Array(N);
    vector?.forEach((share, i) => add(along, columns[i], share));
    const middle = dot(along, columns.at(-1)) / N;
    add(along, columns.at(-1), -middle);
    return along;
  };
  const [x, y] = [axis(vectors[0]), axis(vectors[1])];
  const spread = 1 / Math.max(1e-12, Math.sqrt((dot(x, x) + dot(y, y)) / (2 * N)));
  for (const values of [x, y]) { // the farthest point lies above 0
    const far = values.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a));
    scale(values, spread * Math.sign(far));
  }
  if (!before) return { x, y };
  const [a, b, c, d] = [
    dot(x, before.x), dot(x, before.y), dot(y, before.x), dot(y, before.y),
  ];
  const mirror = Math.hypot(a - d, b + c) > Math.hypot(a + d, b - c) ? -1 : 1;
  const angle = Math.atan2(b - mirror * c, a + mirror * d);
  const [sine, cosine] = [Math.sin(angle), Math.cos(angle)];
  return {
    x: x.map((value, at) => value * cosine - mirror * y[at] * sine),
    y: x.map((value, at) => value * sine + mirror * y[at] * cosine),
  };
}

/**
 * Stage by stage what a model keeps of windows (W, T) of ids: the table with spectra, the row that
 * a probe must be compared with, and the planes with the places of their points.
 * @param {any} model
 * @param {number[][]} ids
 */
export function stageTable(model, ids) {
  const layout = layOut(ids);
  const { N, T, cut, place } = layout;
  /** @type {{ columns: Float64Array[], square: Float64Array[], variance: number } | null} */
  let before = null;
  const table = [];
  /** @type {Plane[]} */
  const planes = [];
  for (const [name, stage] of Object.entries(stageRows(model, layout))) {
    const { columns } = stage;
    const [n, width] = [columns.length, columns.length - 1];
    const sums = fitting(stage, layout);
    const whole = products(columns, columns, T * cut, N);
    for (const part of sums) add(whole, part, 1);
    if (!whole.every(Number.isFinite)) throw new Error("rows must be finite numbers");
    const square = centred(whole, n);
    const variance = square.reduce((sum, row, i) => sum + row[i], 0);
    const { values, vectors } = eigen(square);
    let [kept, alike] = [null, null];
    if (before) {
      const both = centred(products(before.columns, columns, 0, N), n); // (width before, width)
      const recovered = vectors.map((vector, k) => (values[k] > NOTHING * values[0]
        ? both.reduce((sum, row) => sum + dot(row, vector) ** 2, 0) / values[k] : 0));
      kept = recovered.reduce((a, b) => a + b, 0) / (before.variance || 1);
      alike = squares(both) / (Math.sqrt(squares(before.square) * squares(square)) || 1);
    }
    const shares = spectrum(values, N);
    const entropy = shares.reduce((sum, share) => sum - (share && share * Math.log(share)), 0);
    table.push({
      stage: name,
      width,
      "effective rank": Math.exp(entropy),
      "variance kept": kept,
      cka: alike,
      ...probes(stage, sums, layout),
      spectrum: shares.map((share) => Number(share.toPrecision(3))),
    });
    planes.push(plane(stage, vectors, planes.at(-1) ?? null));
    before = { columns, square, variance };
  }
  const constant = zeros(1, N, N - T * cut);
  const commonest = {
    stage: "always the commonest",
    width: null,
    "effective rank": null,
    "variance kept": null,
    cka: null,
    ...probes(constant, fitting(constant, layout), layout),
  };
  return { table, commonest, planes, place };
}
