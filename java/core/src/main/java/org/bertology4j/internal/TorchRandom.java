package org.bertology4j.internal;

/**
 * PyTorch's random numbers on the CPU: the 32-bit Mersenne Twister (Matsumoto and Nishimura 1998),
 * so that an order drawn in a Python script can be drawn here.
 */
public final class TorchRandom {
  private static final int SIZE = 624;
  private static final int SHIFT = 397;

  private final int[] state = new int[SIZE];
  private int next = SIZE;

  /** As {@code torch.Generator().manual_seed(seed)}, of which the lower 32 bits count. */
  public TorchRandom(long seed) {
    state[0] = (int) seed;
    for (int i = 1; i < SIZE; i++) {
      state[i] = 1812433253 * (state[i - 1] ^ (state[i - 1] >>> 30)) + i;
    }
  }

  /** {@code torch.randperm(count)}, for fewer than 30000. */
  public int[] permutation(int count) {
    int[] result = new int[count];
    for (int i = 0; i < count; i++) {
      result[i] = i;
    }
    for (int i = 0; i < count - 1; i++) {
      int other = i + Integer.remainderUnsigned(nextInt(), count - i);
      int swapped = result[i];
      result[i] = result[other];
      result[other] = swapped;
    }
    return result;
  }

  private int nextInt() {
    if (next == SIZE) {
      renew();
    }
    int y = state[next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return y ^ (y >>> 18);
  }

  private void renew() {
    for (int i = 0; i < SIZE; i++) {
      int y = (state[i] & 0x80000000) | (state[(i + 1) % SIZE] & 0x7fffffff);
      state[i] = state[(i + SHIFT) % SIZE] ^ (y >>> 1) ^ ((y & 1) * 0x9908b0df);
    }
    next = 0;
  }
}
