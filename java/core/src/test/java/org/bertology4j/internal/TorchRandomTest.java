package org.bertology4j.internal;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import java.util.Arrays;
import org.junit.jupiter.api.Test;

/**
 * Expected values were printed by PyTorch 2.13: {@code torch.randperm(n,
 * generator=torch.Generator().manual_seed(seed))}.
 */
class TorchRandomTest {
  @Test
  void permutationsArePyTorchs() {
    assertArrayEquals(
        new int[] {3, 4, 0, 5, 7, 9, 11, 6, 8, 1, 10, 2}, new TorchRandom(7).permutation(12));
    assertArrayEquals(
        new int[] {778, 364, 513, 935, 639}, lastFive(new TorchRandom(1).permutation(1000)));
    assertArrayEquals(
        new int[] {639, 595, 53, 94, 132}, lastFive(new TorchRandom(-3).permutation(700)));
  }

  @Test
  void smallPermutations() {
    assertArrayEquals(new int[0], new TorchRandom(1).permutation(0));
    assertArrayEquals(new int[] {0}, new TorchRandom(1).permutation(1));
  }

  private static int[] lastFive(int[] all) {
    return Arrays.copyOfRange(all, all.length - 5, all.length);
  }
}
