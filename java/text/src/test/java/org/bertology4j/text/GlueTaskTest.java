package org.bertology4j.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import org.bertology4j.BertologyException.Kind;
import org.bertology4j.text.GlueTask.Split;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

class GlueTaskTest {
  /** An example as transformers reads it; the label is a class, a number or missing. */
  record Golden(String first, String second, Double label) {}

  record GoldenTask(
      List<String> labels, int numLabels, List<String> metrics, Map<String, List<Golden>> splits) {}

  private static Map<String, GoldenTask> golden;

  @TempDir private Path folder;

  @BeforeAll
  static void read() throws IOException {
    try (Reader reader = Expect.reader("glue/golden.json")) {
      golden = new Gson().fromJson(reader, new TypeToken<Map<String, GoldenTask>>() {}.getType());
    }
    assertEquals(
        Arrays.stream(GlueTask.values()).map(GlueTask::taskName).sorted().toList(),
        golden.keySet().stream().sorted().toList());
  }

  private Path copy(GlueTask task, Split split) {
    String name =
        switch (task) {
          case COLA -> "CoLA";
          case MNLI_MM -> "MNLI";
          default -> task.taskName().toUpperCase(Locale.ROOT);
        };
    String file = task.fileName(split);
    return Expect.write(folder, file, Expect.resource("glue/" + name + "/" + file));
  }

  /** glue_golden.py made what is expected. */
  @ParameterizedTest
  @EnumSource
  void readsTheSameAsTransformers(GlueTask task) {
    GoldenTask expected = golden.get(task.taskName());
    assertEquals(expected.labels(), task.labels().names());
    assertEquals(expected.numLabels(), task.numLabels());
    assertEquals(expected.metrics(), task.metrics().keySet().stream().sorted().toList());
    for (Split split : Split.values()) {
      copy(task, split);
      Dataset dataset = task.read(folder, split);
      String part = split.name().toLowerCase(Locale.ROOT);
      List<Golden> examples = expected.splits().get(part);
      assertEquals(task + " " + part, dataset.name());
      assertEquals(examples.size(), dataset.size(), dataset.name());
      for (int i = 0; i < examples.size(); i++) {
        Golden example = examples.get(i);
        assertEquals(
            new TextPair(example.first(), Optional.ofNullable(example.second())), dataset.text(i));
        assertEquals(task.pairs(), dataset.text(i).second().isPresent());
        switch (dataset.labels().kind()) {
          case NONE -> assertEquals(null, example.label());
          case CLASSES -> assertEquals(example.label(), dataset.classOf(i));
          case REGRESSION -> assertEquals(example.label(), dataset.targetOf(i));
        }
      }
      assertEquals(split == Split.TEST ? Labels.none() : task.labels(), dataset.labels());
    }
  }

  @Test
  void countsTheShortRowsOfQqp() {
    copy(GlueTask.QQP, Split.TRAIN);
    copy(GlueTask.QQP, Split.DEV);
    assertEquals(2, GlueTask.QQP.read(folder, Split.TRAIN).skippedRows());
    assertEquals(0, GlueTask.QQP.read(folder, Split.DEV).skippedRows());
    assertEquals(2, GlueTask.QQP.read(folder, Split.TRAIN).first(3).skippedRows());
  }

  @ParameterizedTest
  @CsvSource({
    "sst-2, SST_2",
    "SST2, SST_2",
    "Sst_2, SST_2",
    "cola, COLA",
    "MNLI-MM, MNLI_MM",
    "mnlimm, MNLI_MM",
    "sts-b, STS_B",
    "STSB, STS_B",
    "' wnli ', WNLI"
  })
  void isFoundByName(String name, GlueTask task) {
    assertSame(task, GlueTask.of(name));
  }

  @Test
  void unknownNamesAreAnswered() {
    Expect.invalid(() -> GlueTask.of("snli"), "\"snli\"", "sst-2", "mnli-mm");
    Expect.invalid(() -> GlueTask.COLA.metric("acc"), "cola", "\"acc\"", "[mcc]");
  }

  @ParameterizedTest
  @CsvSource({
    "COLA, mcc",
    "SST_2, acc",
    "MRPC, acc",
    "STS_B, corr",
    "QQP, acc",
    "MNLI, mnli/acc",
    "MNLI_MM, mnli-mm/acc",
    "QNLI, acc",
    "RTE, acc",
    "WNLI, acc"
  })
  void hasADefaultMetric(GlueTask task, String metric) {
    assertEquals(metric, task.defaultMetric());
    assertEquals(task.metrics().get(metric), task.metric(metric));
  }

  @Test
  void metricsAreFoundByTheirPlainNames() {
    assertSame(Metric.ACC, GlueTask.MNLI.metric("acc"));
    assertSame(Metric.ACC, GlueTask.MNLI.metric("MNLI/acc"));
    assertSame(Metric.F1, GlueTask.MRPC.metric("f1"));
  }

  @Test
  void filesOfMnliAreMatchedOrNot() {
    assertEquals("train.tsv", GlueTask.MNLI_MM.fileName(Split.TRAIN));
    assertEquals("dev_matched.tsv", GlueTask.MNLI.fileName(Split.DEV));
    assertEquals("dev_mismatched.tsv", GlueTask.MNLI_MM.fileName(Split.DEV));
    assertEquals("test_mismatched.tsv", GlueTask.MNLI_MM.fileName(Split.TEST));
  }

  private static Dataset read(GlueTask task, String text) {
    return task.read(
        new ByteArrayInputStream(text.getBytes(StandardCharsets.UTF_8)), "dev.tsv", Split.DEV);
  }

  @Test
  void saysWhatIsWrong() {
    Expect.failure(
        Kind.IO, () -> GlueTask.RTE.read(folder, Split.DEV), "dev.tsv", "does not exist");
    Expect.invalid(() -> read(GlueTask.RTE, ""), "dev.tsv has no examples");
    Expect.invalid(() -> read(GlueTask.RTE, "header\n"), "dev.tsv has no examples");
    Expect.invalid(
        () -> read(GlueTask.RTE, "header\n\n1\ta\tb\n"), "dev.tsv:3: 3 columns, expected 4", "rte");
    Expect.invalid(() -> read(GlueTask.MRPC, "header\n1\t2\t3\ta\n"), "dev.tsv:2: 4", "5 or more");
    Expect.invalid(() -> read(GlueTask.STS_B, "header\n1\t2\n"), "dev.tsv:2: 2", "10 or more");
    Expect.invalid(() -> read(GlueTask.MNLI, "header\n1\t2\n"), "dev.tsv:2: 2", "11 or more");
    Expect.invalid(() -> read(GlueTask.COLA, "a\t1\t*\n"), "dev.tsv:1: 3", "4 or more");
    Expect.invalid(
        () -> read(GlueTask.RTE, "header\n1\ta\tb\tneutral\n"),
        "dev.tsv:2",
        "unknown label \"neutral\"",
        "[entailment, not_entailment]");
    Expect.invalid(
        () -> read(GlueTask.RTE, "header\n1\ta\tb\t0\n"), "dev.tsv:2", "unknown label \"0\"");
    Expect.invalid(
        () -> read(GlueTask.SST_2, "header\na\t1\nb\t\n"), "dev.tsv:3: the label is missing");
    Expect.invalid(() -> read(GlueTask.SST_2, "header\n \t1\n"), "dev.tsv:2: the text is blank");
    String stsB = "header\n1\t2\t3\t4\t5\t6\t7\ta\tb\t";
    Expect.invalid(
        () -> read(GlueTask.STS_B, stsB + "high\n"), "dev.tsv:2", "\"high\"", "a number");
    Expect.invalid(() -> read(GlueTask.STS_B, stsB + "NaN\n"), "dev.tsv:2", "\"NaN\"");
  }
}
