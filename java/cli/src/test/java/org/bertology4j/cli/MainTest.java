package org.bertology4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.bertology4j.Operation;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What all commands share: help, usage, exit codes. */
class MainTest {
  @TempDir Path temporary;

  @ParameterizedTest
  @ValueSource(strings = {"run", "capture", "prune", "info", "bench"})
  void everyCommandHasHelpAndSaysWhereItRuns(String command) {
    String help = Cli.succeeds(command, "--help");
    assertTrue(help.startsWith("Usage: bertology " + command), help);
    for (String option : List.of("--device", "--dtype", "--threads")) {
      assertTrue(help.contains(option), help);
    }
    assertTrue(Cli.succeeds("--help").contains("  " + command + " "));
  }

  @Test
  void versionAndInfo() {
    assertTrue(Cli.succeeds("--version").startsWith("bertology "));
    String info = Cli.succeeds("info", "--threads", 1);
    assertTrue(info.contains("device: cpu"), info);
    assertTrue(info.contains("threads: 1"), info);
    assertTrue(info.contains("instruction set: "), info);
  }

  @Test
  void aDeviceThatIsMissingIsAFailure() {
    Cli.fails("tpu", "info", "--device", "tpu");
  }

  @Test
  void benchmarkOfOneText() {
    String out = Cli.succeeds("bench", "--examples", 1, "--rounds", 1);
    assertTrue(out.contains("importance"), out);
    for (Operation operation : Operation.values()) {
      assertTrue(out.contains("\n" + operation + " "), out);
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "                               | a command is missing",
        "walk                           | Unmatched argument at index 0: 'walk'",
        "run --task_nam sst-2           | Unknown option",
        "run now                        | 'now'",
        "run --task_name sst-3          | unknown task \"sst-3\", known are cola",
        "run --importance loudest       | is none of paper, per_token, signed, squared, hf",
        "run --dtype float8             | expected float32, bfloat16 or float16",
        "run --threads -1               | --threads is -1",
        "run --threads many             | 'many' is not an int",
        "run --try_masking              | --model_name_or_path is missing",
        "run --batch_size 4             | --model_name_or_path is missing",
        "run --task_name sst-2          | --model_name_or_path is missing",
        "run --text_column text         | --input",
        "run --no_cuda --device cuda:0  | contradict",
        "capture                        | '--model_name_or_path=PATH', '--input=FILE'",
        "prune --output_dir o --heads 0:1             | --model_name_or_path",
        "prune --output_dir o --model_name_or_path m  | (--heads=HEADS | --mask=FILE)",
        "prune --heads 0:1 --mask m.npy --output_dir o --model_name_or_path m | exclusive",
        "prune --heads= --output_dir o --model_name_or_path m                 | names no heads",
        "bench --examples 0             | --examples is 0",
        "bench --rounds 0               | --rounds is 0",
      })
  void wrongUsage(String arguments, String saying) {
    Cli.misused(saying, arguments == null ? new Object[0] : (Object[]) arguments.split(" "));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "--task_name sst-2                        | --output_dir is missing",
        "--output_dir o                           | either --task_name and --data_dir, or --input",
        "--output_dir o --task_name sst-2         | either --task_name and --data_dir, or --input",
        "--output_dir o --data_dir d --input i    | either --task_name and --data_dir, or --input",
        "--output_dir o --input i --batch_size 0          | --batch_size is 0",
        "--output_dir o --input i --max_seq_length -5     | --max_seq_length is -5",
        "--output_dir o --input i --data_subset 0         | --data_subset is 0",
        "--output_dir o --input i --masking_threshold 1   | --masking_threshold is 1.0",
        "--output_dir o --input i --masking_threshold NaN | --masking_threshold is NaN",
        "--output_dir o --input i --masking_amount 0      | --masking_amount is 0.0",
        "--output_dir o --input i --masking_amount 1      | --masking_amount is 1.0",
        "--output_dir o --input i --metric_name speed     | unknown metric \"speed\"",
        "--output_dir o --input i --save_pruned s         | --try_masking",
        "--output_dir o --task_name sst-2 --data_dir d --metric_name f1 | has no metric \"f1\"",
      })
  void wrongUsageOfRun(String arguments, String saying) {
    Cli.misused(saying, (Object[]) ("run --model_name_or_path m " + arguments).split(" "));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "--capture moods              | capture \"moods\" is unknown; known are logits",
        "--capture loss               | --capture loss needs labels",
        "--capture logits,head_gradients | --capture head_gradients needs labels",
        "--capture logits --max_seq_length 0   | --max_seq_length is 0",
        "--capture logits --max_seq_length two | 'two' is not an int",
      })
  void wrongUsageOfCapture(String arguments, String saying) {
    String command = "capture --model_name_or_path m --input i --output o " + arguments;
    Cli.misused(saying, (Object[]) command.split(" "));
  }

  @Test
  void dashesAreAcceptedForUnderscores() throws Exception {
    Path model = Tiny.classifier(temporary.resolve("model"), "bad", "good");
    Path input = Tiny.table(temporary.resolve("-in-put-.tsv"), "my-text", Tiny.sentences(3, 5, 1));
    Path one = temporary.resolve("one");
    Path two = temporary.resolve("two");
    Cli.succeeds(
        "capture",
        "--model-name-or-path",
        model,
        "--input=" + input,
        "--text-column=my-text",
        "--max-seq-length",
        12,
        "--capture",
        "hidden_states",
        "--output",
        one);
    Cli.succeeds(
        "capture",
        "--model_name_or_path=" + model,
        "--input",
        input,
        "--text_column",
        "my-text",
        "--max_seq_length=12",
        "--capture=hidden_states",
        "--output=" + two);
    assertEquals(-1, Files.mismatch(one, two));
  }

  @Test
  void theModelThatComesAlongIsFoundByTheLauncherOnly() {
    Cli.fails("bin/bertology", "run", "--output_dir", temporary.resolve("results"));
    assertEquals(0, temporary.toFile().list().length);
  }
}
