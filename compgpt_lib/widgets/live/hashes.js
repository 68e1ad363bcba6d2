// sha256, as support/hashes.py has it: by it a damaged file is told.

/**
 * The first 32 bits of the fractional parts of a root of the first primes.
 * @param {number} count
 * @param {(prime: number) => number} root
 */
function fractions(count, root) {
  const primes = [];
  for (let n = 2; primes.length < count; n += 1) if (primes.every((p) => n % p)) primes.push(n);
  return Uint32Array.from(primes, (p) => (root(p) % 1) * 2 ** 32);
}

const K = fractions(64, Math.cbrt);
const FIRST = fractions(8, Math.sqrt);

/** Bytes that come in parts, and their hash. */
export class Sha256 {
  #hash = FIRST.slice();

  #w = new Int32Array(64);

  #block = new Uint8Array(64);

  #filled = 0; // of the block

  #length = 0;

  /**
   * Take in some bytes, or a text as UTF-8.
   * @param {Uint8Array | string} part
   */
  add(part) {
    const bytes = typeof part === "string" ? new TextEncoder().encode(part) : part;
    this.#length += bytes.length;
    let at = 0;
    if (this.#filled) {
      at = Math.min(64 - this.#filled, bytes.length);
      this.#block.set(bytes.subarray(0, at), this.#filled);
      this.#filled += at;
      if (this.#filled < 64) return this;
      this.#mix(this.#block, 0);
    }
    for (; at + 64 <= bytes.length; at += 64) this.#mix(bytes, at);
    this.#block.set(bytes.subarray(at));
    this.#filled = bytes.length - at;
    return this;
  }

  /** The hash of all that came, in hexadecimal; nothing may come after. */
  hex() {
    const length = 8 * this.#length;
    const end = new Uint8Array((this.#filled < 56 ? 64 : 128) - this.#filled);
    end[0] = 0x80;
    const view = new DataView(end.buffer);
    view.setUint32(end.length - 8, Math.floor(length / 2 ** 32));
    view.setUint32(end.length - 4, length % 2 ** 32);
    this.add(end);
    return Array.from(this.#hash, (word) => word.toString(16).padStart(8, "0")).join("");
  }

  /**
   * @param {Uint8Array} bytes
   * @param {number} at
   */
  #mix(bytes, at) {
    const w = this.#w;
    for (let i = 0, b = at; i < 16; i += 1, b += 4) {
      w[i] = (bytes[b] << 24) | (bytes[b + 1] << 16) | (bytes[b + 2] << 8) | bytes[b + 3];
    }
    for (let i = 16; i < 64; i += 1) {
      const x = w[i - 15];
      const y = w[i - 2];
      const s = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const u = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16] + s + w[i - 7] + u) | 0;
    }
    const hash = this.#hash;
    let a = hash[0] | 0;
    let b = hash[1] | 0;
    let c = hash[2] | 0;
    let d = hash[3] | 0;
    let e = hash[4] | 0;
    let f = hash[5] | 0;
    let g = hash[6] | 0;
    let h = hash[7] | 0;
    for (let i = 0; i < 64; i += 1) {
      const s = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const one = (h + s + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      const u = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const two = (u + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + one) | 0;
      d = c;
      c = b;
      b = a;
      a = (one + two) | 0;
    }
    hash[0] += a;
    hash[1] += b;
    hash[2] += c;
    hash[3] += d;
    hash[4] += e;
    hash[5] += f;
    hash[6] += g;
    hash[7] += h;
  }
}
