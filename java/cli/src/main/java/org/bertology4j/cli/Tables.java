package org.bertology4j.cli;

import java.io.PrintWriter;
import java.util.Locale;
import java.util.function.BiFunction;
import org.bertology4j.HeadScores;

/** Numbers by layer and head, as text. Layers are rows and heads columns, both counted from 0. */
final class Tables {
  private Tables() {}

  /** Scores with five decimals; a dash for heads without one. */
  static void print(PrintWriter out, String title, HeadScores scores) {
    print(
        out,
        title,
        scores.layers(),
        scores.heads(),
        (l, h) -> scores.has(l, h) ? String.format(Locale.ROOT, "%.5f", scores.get(l, h)) : "-");
  }

  /** Ranks, 0 for the greatest score. */
  static void printRanks(PrintWriter out, String title, HeadScores scores) {
    int[][] ranks = scores.ranks();
    print(
        out,
        title,
        scores.layers(),
        scores.heads(),
        (l, h) -> ranks[l][h] < 0 ? "-" : String.valueOf(ranks[l][h]));
  }

  private static void print(
      PrintWriter out,
      String title,
      int layers,
      int heads,
      BiFunction<Integer, Integer, String> cell) {
    out.println(title);
    StringBuilder line = new StringBuilder("layer \\ head");
    for (int h = 0; h < heads; h++) {
      line.append('\t').append(h);
    }
    out.println(line);
    for (int l = 0; l < layers; l++) {
      line = new StringBuilder(String.valueOf(l));
      for (int h = 0; h < heads; h++) {
        line.append('\t').append(cell.apply(l, h));
      }
      out.println(line);
    }
    out.println();
  }
}
