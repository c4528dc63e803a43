package org.bertology4j.cli;

import java.io.PrintWriter;
import java.util.Locale;
import java.util.function.BiFunction;
import org.bertology4j.HeadScores;

/** Numbers by layer and head, as text. Layers are rows and heads columns, both counted from 0. */
final class Tables {
  private static final String CORNER = "layer \\ head";

  private Tables() {}

  /** Scores with five decimals; a dash for heads without one. */
  static void print(PrintWriter out, String title, HeadScores scores) {
    print(
        out,
        title,
        scores,
        10,
        (l, h) -> scores.has(l, h) ? String.format(Locale.ROOT, "%.5f", scores.get(l, h)) : "-");
  }

  /** Ranks, 0 for the greatest score. */
  static void printRanks(PrintWriter out, String title, HeadScores scores) {
    int[][] ranks = scores.ranks();
    print(out, title, scores, 5, (l, h) -> ranks[l][h] < 0 ? "-" : String.valueOf(ranks[l][h]));
  }

  private static void print(
      PrintWriter out,
      String title,
      HeadScores scores,
      int width,
      BiFunction<Integer, Integer, String> cell) {
    out.println(title);
    StringBuilder line = new StringBuilder(CORNER);
    for (int h = 0; h < scores.heads(); h++) {
      append(line, String.valueOf(h), width);
    }
    out.println(line);
    for (int l = 0; l < scores.layers(); l++) {
      line = new StringBuilder();
      append(line, String.valueOf(l), CORNER.length());
      for (int h = 0; h < scores.heads(); h++) {
        append(line, cell.apply(l, h), width);
      }
      out.println(line);
    }
    out.println();
  }

  /** At the right end of its column; a longer one takes more, behind a space. */
  private static void append(StringBuilder line, String text, int width) {
    line.append(" ".repeat(Math.max(1, width - text.length()))).append(text);
  }
}
