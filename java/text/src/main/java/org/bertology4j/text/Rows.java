package org.bertology4j.text;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.List;
import java.util.function.Consumer;
import org.apache.commons.csv.CSVException;
import org.apache.commons.csv.CSVFormat;
import org.apache.commons.csv.CSVParser;
import org.apache.commons.csv.CSVRecord;
import org.bertology4j.BertologyException;

/** Reads the rows of a table in a text file. Empty lines are left out. */
final class Rows {
  /** Tabs between the cells, a row a line, quotation marks are text. */
  static final CSVFormat TSV = CSVFormat.newFormat('\t').builder().setIgnoreEmptyLines(true).get();

  /** RFC 4180; line ends may be LF alone. */
  static final CSVFormat CSV = CSVFormat.RFC4180.builder().setIgnoreEmptyLines(true).get();

  private Rows() {}

  /**
   * A row.
   *
   * @param line the line in which it begins; the first of the file is 1
   */
  record Row(long line, List<String> cells) {}

  /**
   * Hands over each row, and closes the stream.
   *
   * @param where what to call the file in messages
   */
  static void forEach(InputStream in, String where, CSVFormat format, Consumer<Row> action) {
    try (CSVParser parser =
        CSVParser.builder().setReader(Utf8Reader.lines(in, where)).setFormat(format).get()) {
      for (CSVRecord record : parser) {
        List<String> cells = record.toList();
        // The parser has counted to the end of the row; a quoted cell may hold line ends.
        action.accept(new Row(parser.getCurrentLineNumber() - lineEnds(cells), cells));
      }
    } catch (UncheckedIOException e) {
      throw failure(where, e.getCause());
    } catch (IOException e) {
      throw failure(where, e);
    }
  }

  private static BertologyException failure(String where, IOException cause) {
    return cause instanceof CSVException
        ? BertologyException.invalid("%s is not well-formed: %s", where, cause.getMessage())
        : BertologyException.io(cause, "%s cannot be read: %s", where, cause);
  }

  private static long lineEnds(List<String> cells) {
    long count = 0;
    for (String cell : cells) {
      for (int i = 0; i < cell.length(); i++) {
        char c = cell.charAt(i);
        if (c == '\r' || (c == '\n' && (i == 0 || cell.charAt(i - 1) != '\r'))) {
          count++;
        }
      }
    }
    return count;
  }
}
