package org.bertology4j;

import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Whatever a model's files say, it loads and works, or a BertologyException says what is wrong; the
 * files' own damages are tested beside their readers.
 */
class DamagedModelTest {
  private static final String[] VALUES = {
    "0",
    "-1",
    "1",
    "2",
    "3",
    "4",
    "8",
    "24",
    "31",
    "2147483647",
    "4294967296",
    "1e300",
    "-1e300",
    "0.5",
    "1e-40",
    "\"x\"",
    "\"3\"",
    "null",
    "true",
    "[]",
    "{}",
    "[1]",
    "{\"0\":[0]}",
    "{\"0\":[0,0]}",
    "{\"-1\":[0]}",
    "{\"2\":[3,2,1,0]}",
    "{\"0\":\"a\"}",
    "{\"a\":[1]}"
  };

  private static final Device DEVICE = Device.open("cpu");

  @TempDir Path folder;
  private int used;

  @AfterAll
  static void close() {
    DEVICE.close();
  }

  /** Loads, runs and prunes, at times saves and loads again; whether it could be loaded at all. */
  private boolean use(String what) {
    Batch batch = Batch.of(new int[] {1, 2, 3});
    try (Model model = Model.load(folder, ModelOptions.defaults().device(DEVICE))) {
      for (Capture capture : Capture.all()) {
        try (Activations run = model.run(batch.withLabels(0), capture)) {
          run.get(capture, 0, 0).toArray();
        } catch (BertologyException e) {
          assertNotEquals(BertologyException.Kind.INTERNAL, e.kind(), what);
        }
      }
      Heads heads = Heads.parse("0:" + model.heads(0).get(0));
      model.pruneHeads(heads);
      if (used++ % 16 == 0) { // it waits for the disk
        model.save(folder.resolve("copy"));
        Model.load(folder.resolve("copy")).close();
      }
      return true;
    } catch (BertologyException e) {
      assertNotEquals(BertologyException.Kind.INTERNAL, e.kind(), what);
      return false;
    } catch (RuntimeException | OutOfMemoryError e) {
      throw new AssertionError(what, e);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"classification", "masked_lm", "pruned", "gpt2_lm", "gpt_pruned"})
  void anyEntryOfTheConfiguration(String name) throws IOException {
    Path golden = Golden.folder(name);
    Files.copy(golden.resolve("model.safetensors"), folder.resolve("model.safetensors"));
    JsonObject original =
        JsonParser.parseString(Files.readString(golden.resolve("config.json"))).getAsJsonObject();
    Set<String> entries = new TreeSet<>(original.keySet());
    entries.addAll(Set.of("num_labels", "problem_type", "pruned_heads", "bertology_pooling"));
    int refused = 0;
    for (String entry : entries) {
      JsonObject rest = original.deepCopy();
      rest.remove(entry);
      for (String value : VALUES) {
        String text = rest.toString().replaceFirst("\\{", "{\"" + entry + "\":" + value + ",");
        Files.writeString(folder.resolve("config.json"), text);
        refused += use(entry + ": " + value) ? 0 : 1;
      }
    }
    assertTrue(refused > 100, refused + " were refused");
  }

  @Test
  void anyBitsOfTheWeights() throws IOException {
    Path golden = Golden.folder("classification");
    Files.copy(golden.resolve("config.json"), folder.resolve("config.json"));
    byte[] original = Files.readAllBytes(golden.resolve("model.safetensors"));
    Random random = new Random(3);
    for (int round = 0; round < 200; round++) {
      byte[] damaged = original.clone();
      for (int i = 0; i < 3; i++) {
        damaged[damaged.length / 2 + random.nextInt(damaged.length / 2)] = (byte) random.nextInt();
      }
      Files.write(folder.resolve("model.safetensors"), damaged);
      use("round " + round);
    }
    assertTrue(used > 100, used + " could be used");
  }
}
