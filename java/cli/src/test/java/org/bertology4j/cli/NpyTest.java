package org.bertology4j.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.Objects;
import org.bertology4j.BertologyException;
import org.bertology4j.HeadScores;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Files as NumPy writes them; those read here are made by resources/.../npy/make_npy.py. */
class NpyTest {
  private static final float[][] MASK = {{1, 0, 1, 1}, {1, 1, 1, 1}, {0, 0, 1, 0}};

  @TempDir Path temporary;

  private static Path golden(String name) throws Exception {
    return Path.of(
        Objects.requireNonNull(NpyTest.class.getResource("npy/" + name + ".npy"), name).toURI());
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"float32", "float64", "int8", "uint8", "int32", "int64", "bool", "by_column"})
  void readsWhatNumPyWrites(String name) throws Exception {
    assertArrayEquals(MASK, Npy.read(golden(name)));
  }

  @Test
  void readsAllNumbers() throws Exception {
    float[][] expected = {
      {0.25f, -1e-7f, 3e38f, Float.NaN}, {Float.POSITIVE_INFINITY, 0, -0f, 1f / 3}
    };
    assertArrayEquals(expected, Npy.read(golden("scores")));
  }

  @Test
  void writesByteForByteAsNumPy() throws Exception {
    for (String name : new String[] {"float32", "scores"}) {
      Path file = temporary.resolve(name + ".npy");
      Npy.write(file, Npy.read(golden(name)));
      assertArrayEquals(Files.readAllBytes(golden(name)), Files.readAllBytes(file), name);
    }
  }

  @Test
  void writesTheSameInEveryLanguage() throws Exception {
    Locale usual = Locale.getDefault();
    try {
      Locale.setDefault(Locale.forLanguageTag("ar-EG-u-nu-arab"));
      Npy.write(temporary.resolve("mask.npy"), MASK);
    } finally {
      Locale.setDefault(usual);
    }
    assertArrayEquals(
        Files.readAllBytes(golden("float32")), Files.readAllBytes(temporary.resolve("mask.npy")));
  }

  @Test
  void headsWithoutScoreAreNaN() {
    Path file = temporary.resolve("scores.npy");
    Npy.write(file, HeadScores.of(new double[][] {{1, Double.NaN}, {1e-3, 0.1}, {0, 2}}));
    assertArrayEquals(new float[][] {{1, Float.NaN}, {1e-3f, 0.1f}, {0, 2}}, Npy.read(file));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "big_endian | expected a matrix of one of the types [<f4",
        "complex    | expected a matrix",
        "objects    | expected a matrix",
        "vector     | 'shape': (4,)",
        "cube       | 'shape': (1, 3, 4)",
        "empty      | 0 bytes of data for 0 rows of 4 columns",
        "version_2  | version 2, expected 1"
      })
  void refusesWhatIsNoMask(String name, String saying) throws Exception {
    Path file = golden(name);
    BertologyException e = assertThrows(BertologyException.class, () -> Npy.read(file));
    assertTrue(e.getMessage().contains(saying), e.getMessage());
    assertTrue(e.getMessage().contains(name + ".npy"), e.getMessage());
  }

  @Test
  void refusesEveryTruncation() throws Exception {
    byte[] whole = Files.readAllBytes(golden("float32"));
    Path file = temporary.resolve("mask.npy");
    for (int length = 0; length < whole.length; length++) {
      Files.write(file, Arrays.copyOf(whole, length));
      BertologyException e = assertThrows(BertologyException.class, () -> Npy.read(file));
      assertEquals(BertologyException.Kind.INVALID_ARGUMENT, e.kind());
    }
    Files.write(file, Arrays.copyOf(whole, whole.length + 1));
    assertThrows(BertologyException.class, () -> Npy.read(file));
  }
}
