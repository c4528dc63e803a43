package org.bertology4j.text;

import java.io.InputStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import org.apache.commons.csv.CSVFormat;
import org.bertology4j.BertologyException;
import org.bertology4j.ModelConfig;

/**
 * Reads data sets from tables whose columns have names: tab-separated text, CSV, or a JSON object a
 * line. All are UTF-8, with or without a byte order mark.
 *
 * <ul>
 *   <li>TSV: the first row names the columns; no quoting, as the files of GLUE.
 *   <li>CSV: the first row names the columns; quoting by RFC 4180.
 *   <li>JSON lines: the keys name the columns; texts are strings, labels strings, numbers or
 *       booleans. Other keys are not looked at.
 * </ul>
 *
 * <p>Labels are what {@link Builder#labels} says. The label of a class is its name, its name in
 * another case, or its number from 0: whichever of these fits all labels of the file. If nothing is
 * said, whole numbers from 0 are classes that are named by their numbers, other numbers are
 * regression, and anything else names classes, in alphabetical order.
 */
public final class DatasetReader {
  /** Formats of files. */
  public enum Format {
    /** Tab-separated text. */
    TSV,
    /** Comma-separated text. */
    CSV,
    /** A JSON object a line. */
    JSONL;

    /** The format of a file by the end of its name: .tsv, .csv, .jsonl or .ndjson. */
    public static Format of(Path file) {
      String name = String.valueOf(file.getFileName()).toLowerCase(Locale.ROOT);
      if (name.endsWith(".tsv")) {
        return TSV;
      }
      if (name.endsWith(".csv")) {
        return CSV;
      }
      if (name.endsWith(".jsonl") || name.endsWith(".ndjson")) {
        return JSONL;
      }
      throw BertologyException.invalid(
          "%s: the format cannot be told from the name; .tsv, .csv, .jsonl and .ndjson are known",
          file);
    }
  }

  private final String text;
  private final Optional<String> pair;
  private final Optional<String> label;
  private final Optional<Labels> labels;
  private final Optional<Format> format;

  private DatasetReader(Builder builder) {
    text = builder.text;
    pair = builder.pair;
    label = builder.label;
    labels = builder.labels;
    format = builder.format;
  }

  /** A builder; without more, texts are in the column {@code text} and there are no labels. */
  public static Builder builder() {
    return new Builder();
  }

  /** Says which columns are read, and as what. */
  public static final class Builder {
    private String text = "text";
    private Optional<String> pair = Optional.empty();
    private Optional<String> label = Optional.empty();
    private Optional<Labels> labels = Optional.empty();
    private Optional<Format> format = Optional.empty();

    private Builder() {}

    /** The column of the text. */
    public Builder text(String column) {
      text = column;
      return this;
    }

    /** The column of the second text. */
    public Builder pair(String column) {
      pair = Optional.of(column);
      return this;
    }

    /** The column of the label. */
    public Builder label(String column) {
      label = Optional.of(column);
      return this;
    }

    /** What the labels are; else it is inferred. */
    public Builder labels(Labels kind) {
      BertologyException.check(
          kind.kind() != Labels.Kind.NONE, "labels are none: name no label column instead");
      labels = Optional.of(kind);
      return this;
    }

    /** The labels are what the classifier of this model predicts. */
    public Builder labelsOf(ModelConfig config) {
      return labels(Labels.of(config));
    }

    /** The format; else it is told from the file's name. */
    public Builder format(Format known) {
      format = Optional.of(known);
      return this;
    }

    /** The reader. */
    public DatasetReader build() {
      return new DatasetReader(this);
    }
  }

  /** Reads a file. The data set has the file's name. */
  public Dataset read(Path file) {
    Format known = format.orElseGet(() -> Format.of(file));
    return read(Utf8Reader.open(file), file.toString(), String.valueOf(file.getFileName()), known);
  }

  /**
   * Reads a stream to its end and closes it.
   *
   * @param name the name of the data set, and what to call the stream in messages
   */
  public Dataset read(InputStream in, String name, Format known) {
    return read(in, name, name, known);
  }

  private Dataset read(InputStream in, String where, String name, Format known) {
    Examples examples = new Examples(where);
    switch (known) {
      case TSV -> readTable(in, where, Rows.TSV, examples);
      case CSV -> readTable(in, where, Rows.CSV, examples);
      case JSONL -> JsonLines.forEach(in, where, row -> readObject(row, examples));
    }
    if (label.isEmpty()) {
      return examples.unlabelled(name);
    }
    Labels kind = labels.orElseGet(() -> LabelText.infer(examples.distinctLabels()));
    return examples.labelled(name, kind, LabelText.Form.LENIENT);
  }

  private void readTable(InputStream in, String where, CSVFormat csv, Examples examples) {
    List<String> header = new ArrayList<>();
    Rows.forEach(
        in,
        where,
        csv,
        row -> {
          if (header.isEmpty()) {
            header.addAll(row.cells());
          } else {
            readRow(row, header, where, examples);
          }
        });
  }

  private void readRow(Rows.Row row, List<String> header, String where, Examples examples) {
    List<String> cells = row.cells();
    BertologyException.check(
        cells.size() == header.size(),
        "%s:%d: %d columns, expected %d: %s",
        where,
        row.line(),
        cells.size(),
        header.size(),
        header);
    String first = cells.get(column(text, header, where));
    TextPair texts =
        pair.map(name -> TextPair.of(first, cells.get(column(name, header, where))))
            .orElseGet(() -> TextPair.of(first));
    if (label.isPresent()) {
      examples.add(row.line(), texts, cells.get(column(label.get(), header, where)));
    } else {
      examples.add(row.line(), texts);
    }
  }

  private static int column(String name, List<String> header, String where) {
    int place = header.indexOf(name);
    BertologyException.check(
        place >= 0, "%s has no column \"%s\", its columns are %s", where, name, header);
    BertologyException.check(
        place == header.lastIndexOf(name), "%s has two columns \"%s\"", where, name);
    return place;
  }

  private void readObject(JsonLines.Row row, Examples examples) {
    String first = row.text(text);
    TextPair texts =
        pair.map(name -> TextPair.of(first, row.text(name))).orElseGet(() -> TextPair.of(first));
    if (label.isPresent()) {
      examples.add(row.line(), texts, row.label(label.get()));
    } else {
      examples.add(row.line(), texts);
    }
  }
}
