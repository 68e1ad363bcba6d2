// torch's generator on a CPU: the same seed draws the same numbers as in a notebook.

const N = 624;

/** The Mersenne twister MT19937, and the waiting times that torch draws from it. */
export class MersenneTwister {
  #state = new Uint32Array(N);

  #at = N;

  /** @param {number | bigint} seed of which torch takes the lowest 32 bits */
  constructor(seed) {
    const state = this.#state;
    state[0] = typeof seed === "bigint" ? Number(BigInt.asUintN(32, seed)) : seed % 2 ** 32;
    for (let i = 1; i < N; i += 1) {
      state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
    }
  }

  /** The next 32 random bits, as a whole number. */
  bits() {
    const state = this.#state;
    if (this.#at === N) {
      for (let i = 0; i < N; i += 1) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % N] & 0x7fffffff);
        state[i] = state[(i + 397) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.#at = 0;
    }
    let y = state[this.#at];
    this.#at += 1;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** A number from 0 to 1 in double precision: 53 of the next 64 bits. */
  uniform() {
    const high = this.bits() % 2 ** 21;
    return (high * 2 ** 32 + this.bits()) / 2 ** 53;
  }

  /** A waiting time of rate 1, as Tensor.exponential_ fills a tensor of doubles. */
  exponential() {
    return -Math.log1p(-this.uniform());
  }
}
