package org.bertology4j.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.bertology4j.Activations;
import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.HeadMask;
import org.bertology4j.Heads;
import org.bertology4j.Model;
import org.bertology4j.RunOptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code bertology prune}: what is saved computes what the whole model does under a mask. */
class PruneTest {
  private static final Batch BATCH =
      Batch.of(new int[] {2, 5, 6, 7, 3}, new int[] {2, 8, 3}, new int[] {2, 9, 10, 11, 12, 3});

  @TempDir Path temporary;
  private Path model;
  private Path output;

  @BeforeEach
  void makeModel() {
    model = Tiny.classifier(temporary.resolve("model"), "bad", "good");
    output = temporary.resolve("pruned");
  }

  private Object[] command(Path of, Object... more) {
    List<Object> arguments =
        new ArrayList<>(List.of("prune", "--model_name_or_path", of, "--output_dir", output));
    arguments.addAll(List.of(more));
    return arguments.toArray();
  }

  private static float[] logits(Path of, Heads masked) {
    try (Model loaded = Model.load(of);
        Activations run =
            loaded.run(
                BATCH,
                RunOptions.capturing(Capture.LOGITS)
                    .headMask(HeadMask.without(masked, loaded.config())))) {
      return run.logits().toArray();
    }
  }

  private void assertPruned(String heads, boolean fullShape) {
    try (Model loaded = Model.load(output)) {
      assertEquals(fullShape ? "" : heads, loaded.prunedHeads().toString());
      assertTrue(loaded.hasClassifier());
    }
    float[] masked = logits(model, Heads.parse(heads));
    assertArrayEquals(masked, logits(output, Heads.none()), 1e-6f);
    float[] whole = logits(model, Heads.none());
    assertTrue(Math.abs(whole[0] - masked[0]) > 1e-3, "the heads matter");
    assertTrue(Files.exists(output.resolve("vocab.txt")));
  }

  @Test
  void headsByName() {
    String said = Cli.succeeds(command(model, "--heads", "2:0; 0:3,1"));
    assertTrue(said.startsWith("pruned 3 heads (0:1,3;2:0): "), said);
    assertTrue(said.contains("saved in " + output), said);
    assertPruned("0:1,3;2:0", false);
  }

  @Test
  void headsByMask() {
    Path mask = temporary.resolve("head_mask.npy");
    Npy.write(mask, new float[][] {{1, 0, 1, 1}, {0, 0, 0, 0}, {1, 1, 1, 1}});
    Cli.succeeds(command(model, "--mask", mask));
    assertPruned("0:1;1:0,1,2,3", false);
  }

  @Test
  void theShapesMayStay() throws IOException {
    Cli.succeeds(command(model, "--heads", "0:1,3;1:0,1,2,3", "--full_shape"));
    assertPruned("0:1,3;1:0,1,2,3", true);
    assertFalse(Files.readString(output.resolve("config.json")).contains("pruned_heads"));
    assertEquals(
        Files.size(model.resolve("model.safetensors")),
        Files.size(output.resolve("model.safetensors")));
  }

  @Test
  void aPrunedModelIsPrunedFurther() {
    Cli.succeeds(command(model, "--heads", "0:1"));
    Path once = output;
    output = temporary.resolve("twice");
    Path mask = temporary.resolve("head_mask.npy");
    Npy.write(mask, new float[][] {{1, Float.NaN, 1, 1}, {1, 1, 1, 1}, {0, 1, 1, 1}});
    Cli.fails("head 1 of layer 0 is already pruned", command(once, "--heads", "2:0;0:1"));
    assertFalse(Files.exists(output));
    // The mask's value for a head that is gone does not count.
    Cli.succeeds(command(once, "--mask", mask));
    assertPruned("0:1;2:0", false);
  }

  @Test
  void aMaskOfOnesPrunesNothing() {
    Path mask = temporary.resolve("head_mask.npy");
    Npy.write(mask, HeadMask.ones(Tiny.LAYERS, Tiny.HEADS).toArray());
    String said = Cli.succeeds(command(model, "--mask", mask));
    assertTrue(said.startsWith("pruned no heads: "), said);
    assertArrayEquals(logits(model, Heads.none()), logits(output, Heads.none()));
  }

  @Test
  void failuresLeaveNothing() throws IOException {
    Cli.fails("head 4 of layer 1 does not exist", command(model, "--heads", "1:4"));
    Cli.fails("layer 3 does not exist", command(model, "--heads", "3:0"));
    Cli.misused("head 1 of layer 0 is named twice", command(model, "--heads", "0:1,2;0:1"));
    Cli.misused("\"one\" is not a number", command(model, "--heads", "0:one"));
    Cli.fails("no such file or folder", command(temporary.resolve("x"), "--heads", "0:1"));
    Path mask = temporary.resolve("mask.npy");
    Cli.fails("mask.npy does not exist", command(model, "--mask", mask));
    Npy.write(mask, new float[2][4]);
    Cli.fails(
        "mask.npy is for 2 layers of 4 heads, the model has 3 of 4",
        command(model, "--mask", mask));
    Npy.write(mask, new float[][] {{1, 1, 1, 1}, {1, 0.5f, 1, 1}, {1, 1, 1, 1}});
    Cli.fails("has the value 0.5, expected 0 or 1", command(model, "--mask", mask));
    Files.writeString(mask, "1 0 1 1");
    Cli.fails("mask.npy is not a NumPy file", command(model, "--mask", mask));
    assertFalse(Files.exists(output));
  }

  @Test
  void theWholeModelIsNotOverwritten() throws IOException {
    byte[] before = Files.readAllBytes(model.resolve("model.safetensors"));
    output = model;
    Cli.fails("is the folder of the model itself", command(model, "--heads", "0:1"));
    Cli.fails(
        "is the folder of the model itself",
        command(model.resolve("model.safetensors"), "--heads", "0:1"));
    output = model.resolve("config.json");
    Cli.fails("is not a folder", command(model, "--heads", "0:1"));
    assertArrayEquals(before, Files.readAllBytes(model.resolve("model.safetensors")));
  }
}
