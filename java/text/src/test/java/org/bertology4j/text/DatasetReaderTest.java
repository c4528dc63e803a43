package org.bertology4j.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.gson.JsonParser;
import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import org.bertology4j.BertologyException.Kind;
import org.bertology4j.ModelConfig;
import org.bertology4j.text.DatasetReader.Format;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DatasetReaderTest {
  @TempDir private Path folder;

  private static DatasetReader.Builder labelled() {
    return DatasetReader.builder().label("label");
  }

  private Dataset read(DatasetReader.Builder reader, String name, String text) {
    return reader.build().read(Expect.write(folder, name, text));
  }

  private static ModelConfig config(String labels) {
    return ModelConfig.fromJson(
        JsonParser.parseString(
                "{\"num_hidden_layers\": 1, \"num_attention_heads\": 1, \"hidden_size\": 2,"
                    + " \"intermediate_size\": 4, \"vocab_size\": 9,"
                    + " \"max_position_embeddings\": 8, \"type_vocab_size\": 2, "
                    + labels
                    + "}")
            .getAsJsonObject(),
        "config.json");
  }

  @Test
  void tsvHasNoQuoting() {
    Dataset dataset =
        read(
            labelled().pair("b"),
            "d.tsv",
            "\ufeffid\ttext\tb\tlabel\n1\t\"one\t tw\"o \tyes\n\n2\tthree,\t''\tno");
    assertEquals("d.tsv", dataset.name());
    assertEquals(
        List.of(TextPair.of("\"one", " tw\"o "), TextPair.of("three,", "''")), dataset.texts());
    assertEquals(Labels.classes("no", "yes"), dataset.labels());
    assertArrayEquals(new int[] {1, 0}, dataset.classes());
  }

  @Test
  void csvHasTheQuotingOfRfc4180() {
    Dataset dataset =
        read(
            labelled(),
            "d.csv",
            "text,label\r\n\"a, \"\"b\"\"\",yes\r\n\"two\r\nlines\",no\r\n\"x\",\"yes\"\r\n");
    assertEquals(
        List.of("a, \"b\"", "two\r\nlines", "x"),
        dataset.texts().stream().map(TextPair::first).toList());
    assertArrayEquals(new int[] {1, 0, 1}, dataset.classes());
  }

  @Test
  void jsonLinesAreStrict() {
    Dataset dataset =
        read(
            labelled().text("s").pair("t"),
            "d.jsonl",
            "{\"s\": \"one\\n\\u00e9\", \"t\": \"two\", \"label\": 1, \"more\": [1]}\n\n"
                + "{\"t\": \"four\", \"s\": \"three\", \"label\": 0}\r\n");
    assertEquals(
        List.of(TextPair.of("one\né", "two"), TextPair.of("three", "four")), dataset.texts());
    assertArrayEquals(new int[] {1, 0}, dataset.classes());
    assertEquals(List.of("0", "1"), dataset.labels().names());
    Dataset truths =
        read(
            labelled(),
            "d.ndjson",
            "{\"text\": \"a\", \"label\": true}\n{\"text\": \"b\", \"label\": false}");
    assertEquals(List.of("false", "true"), truths.labels().names());

    Expect.invalid(() -> read(labelled(), "d.jsonl", "{'text': 'a'}"), "d.jsonl:1: not JSON");
    Expect.invalid(() -> read(labelled(), "d.jsonl", "\n{\"text\": \"a\""), "d.jsonl:2: not JSON");
    Expect.invalid(() -> read(labelled(), "d.jsonl", "[1]"), "d.jsonl:1", "object");
    Expect.invalid(() -> read(labelled(), "d.jsonl", "{} {}"), "d.jsonl:1: not JSON");
    Expect.invalid(
        () -> read(labelled(), "d.jsonl", "{\"txt\": \"a\"}"), "d.jsonl:1", "\"text\"", "[txt]");
    Expect.invalid(() -> read(labelled(), "d.jsonl", "{\"text\": 1}"), "d.jsonl:1", "is 1");
    Expect.invalid(
        () -> read(labelled(), "d.jsonl", "{\"text\": \"a\", \"label\": null}"),
        "d.jsonl:1: the label is missing");
    Expect.invalid(() -> read(labelled(), "d.jsonl", "{\"text\": \"a\", \"label\": []}"), "is []");
  }

  @Test
  void withoutALabelColumnThereAreNoLabels() {
    Dataset dataset = read(DatasetReader.builder(), "d.csv", "text,label\na,1\n");
    assertEquals(Labels.none(), dataset.labels());
    assertEquals(new Example(TextPair.of("a"), Optional.empty()), dataset.example(0));
  }

  @Test
  void labelsAreInferred() {
    assertEquals(
        Labels.classes("0", "1", "2", "3"),
        read(labelled(), "d.csv", "text,label\na,3\nb,1\n").labels());
    assertEquals(Labels.classes("0", "1"), read(labelled(), "d.csv", "text,label\na,0\n").labels());
    Dataset numbers = read(labelled(), "d.csv", "text,label\na,3\nb,-1.5\nc,1e-1\n");
    assertEquals(Labels.regression(), numbers.labels());
    assertArrayEquals(new double[] {3, -1.5, 0.1}, numbers.targets());
    assertEquals(
        Labels.classes("1", "x"), read(labelled(), "d.csv", "text,label\na,x\nb,1\n").labels());
    Expect.invalid(() -> read(labelled(), "d.csv", "text,label\na,x\nb,x\n"), "[x]", "two");
  }

  @Test
  void labelsMayBeGiven() {
    Labels moods = Labels.classes("Sad", "Happy", "Calm");
    String names = "text,label\na,Happy\nb,Sad\n";
    assertArrayEquals(new int[] {1, 0}, read(labelled().labels(moods), "d.csv", names).classes());
    assertArrayEquals(
        new int[] {1, 0},
        read(
                labelled().labels(moods),
                "d.csv",
                names.toUpperCase(Locale.ROOT).replace("TEXT,LABEL", "text,label"))
            .classes());
    assertArrayEquals(
        new int[] {2, 0},
        read(labelled().labels(moods), "d.csv", "text,label\na,2\nb,0\n").classes());
    assertArrayEquals(
        new double[] {2, 0},
        read(labelled().labels(Labels.regression()), "d.csv", "text,label\na,2\nb,0\n").targets());
    Expect.invalid(
        () -> read(labelled().labels(moods), "d.csv", "text,label\na,Sad\nb,Bad\n"),
        "d.csv:3",
        "\"Bad\"",
        "[Sad, Happy, Calm]");
    Expect.invalid(
        () -> read(labelled().labels(moods), "d.csv", "text,label\na,3\n"), "d.csv:2", "\"3\"");
    Expect.invalid(() -> labelled().labels(Labels.none()), "none");
  }

  @Test
  void labelsMayBeThoseOfAModel() {
    ModelConfig classes = config("\"id2label\": {\"0\": \"bad\", \"1\": \"good\"}");
    ModelConfig number = config("\"id2label\": {\"0\": \"LABEL_0\"}");
    assertArrayEquals(
        new int[] {1, 0},
        read(labelled().labelsOf(classes), "d.csv", "text,label\na,good\nb,bad\n").classes());
    assertArrayEquals(
        new int[] {1, 0},
        read(labelled().labelsOf(classes), "d.csv", "text,label\na,1\nb,0\n").classes());
    assertArrayEquals(
        new double[] {1, 0},
        read(labelled().labelsOf(number), "d.csv", "text,label\na,1\nb,0\n").targets());
  }

  @Test
  void saysWhatIsWrong() {
    Expect.invalid(() -> read(labelled(), "d.txt", "text\n"), "d.txt", ".jsonl");
    Expect.failure(
        Kind.IO, () -> labelled().build().read(folder.resolve("none.csv")), "none.csv", "exist");
    Expect.invalid(() -> read(labelled(), "d.csv", ""), "d.csv has no examples");
    Expect.invalid(() -> read(labelled(), "d.csv", "text,label\n"), "d.csv has no examples");
    Expect.invalid(() -> read(labelled(), "d.jsonl", "\n"), "d.jsonl has no examples");
    Expect.invalid(
        () -> read(labelled(), "d.csv", "sentence,label\na,1\n"),
        "d.csv has no column \"text\"",
        "[sentence, label]");
    Expect.invalid(
        () -> read(labelled(), "d.csv", "text,label,text\na,1,b\n"), "two columns \"text\"");
    Expect.invalid(
        () -> read(labelled(), "d.csv", "text,label\n\"a\nb\",1\nb,2,3\n"),
        "d.csv:4: 3 columns, expected 2: [text, label]");
    Expect.invalid(
        () -> read(labelled(), "d.csv", "text,label\n\n\"two\nlines\",\n"),
        "d.csv:3: the label is missing");
    Expect.invalid(() -> read(labelled(), "d.tsv", "text\tlabel\n\t1\n"), "d.tsv:2: the text is");
    Expect.invalid(
        () -> read(labelled(), "d.csv", "text,label\n\"a\"b,1\n"), "d.csv is not well-formed");
    Expect.invalid(
        () -> read(labelled(), "d.csv", "text,label\n\"a,1\n"), "d.csv is not well-formed");
    byte[] latin1 = "text,label\nok,1\ncaf\u00e9,1\n".getBytes(StandardCharsets.ISO_8859_1);
    Expect.invalid(
        () -> labelled().build().read(new ByteArrayInputStream(latin1), "stdin", Format.CSV),
        "stdin:3: not UTF-8",
        "0xe9",
        "offset 19");
  }

  @Test
  void theFormatMayBeTold() {
    assertEquals(
        "a,b",
        read(DatasetReader.builder().format(Format.TSV), "d.txt", "text\na,b\n").text(0).first());
  }
}
