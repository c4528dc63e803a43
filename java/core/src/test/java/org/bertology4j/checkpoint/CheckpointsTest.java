package org.bertology4j.checkpoint;

import static org.bertology4j.checkpoint.Golden.assertFails;
import static org.bertology4j.checkpoint.Golden.assertInvalid;
import static org.bertology4j.checkpoint.Golden.assertSameWeights;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.bertology4j.BertologyException.Kind;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CheckpointsTest {
  @TempDir Path folder;

  @Test
  void saysWhatItLookedForAndFound() throws IOException {
    assertInvalid(() -> Golden.open(folder), folder.toString(), "found nothing");
    Files.writeString(folder.resolve("vocab.txt"), "x");
    Files.writeString(folder.resolve("config.json"), "{}");
    assertInvalid(
        () -> Golden.open(folder),
        folder.toString(),
        "model.safetensors",
        ".onnx",
        "bert_model.ckpt.index",
        "\"config.json\"",
        "\"vocab.txt\"");
    assertInvalid(() -> Golden.open(folder.resolve("vocab.txt")), "vocab.txt", "file ending in");
  }

  @Test
  void reportsAPathThatDoesNotExist() {
    Path missing = folder.resolve("bert");
    assertFails(Kind.IO, () -> Golden.open(missing), missing.toString(), "no such file");
  }

  @Test
  void takesTheOnlyOnnxFileOfAFolder() throws IOException {
    Path source = Golden.path("onnx/script-encoder.onnx");
    Files.copy(source, folder.resolve("bert-tiny.onnx"));
    try (Checkpoint expected = Checkpoint.open(source);
        Checkpoint actual = Checkpoint.open(folder)) {
      assertSameWeights(expected, actual, 0);
    }
    Files.copy(source, folder.resolve("other.onnx"));
    assertInvalid(() -> Golden.open(folder), "\"bert-tiny.onnx\", \"other.onnx\"", "model.onnx");
    Files.copy(source, folder.resolve("model.onnx"));
    Golden.open(folder);
  }

  @Test
  void doesNotChooseBetweenBundles() throws IOException {
    Files.writeString(folder.resolve("a.index"), "");
    Files.writeString(folder.resolve("b.index"), "");
    assertInvalid(() -> Golden.open(folder), "\"a.index\", \"b.index\"", "name one");
  }

  @Test
  void prefersSafetensors() throws IOException {
    Golden.copy("masked-lm", folder);
    Files.copy(Golden.path("onnx/script-encoder.onnx"), folder.resolve("model.onnx"));
    try (Checkpoint expected = Checkpoint.open(Golden.path("masked-lm"));
        Checkpoint actual = Checkpoint.open(folder)) {
      assertSameWeights(expected, actual, 0);
    }
  }
}
