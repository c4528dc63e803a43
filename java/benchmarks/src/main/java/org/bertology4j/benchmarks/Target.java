package org.bertology4j.benchmarks;

import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import org.apache.commons.csv.CSVFormat;
import org.apache.commons.csv.CSVRecord;

/**
 * What a row ought to reach.
 *
 * @param atLeast whether the number is a lower bound; otherwise it is an upper one
 */
record Target(boolean atLeast, double number) {
  private static final String TABLE = "targets.csv";

  /** Those that there are, by the names of rows. */
  static Map<String, Target> all() {
    InputStream in =
        Objects.requireNonNull(Target.class.getResourceAsStream(TABLE), "resource " + TABLE);
    CSVFormat format = CSVFormat.DEFAULT.builder().setHeader().setSkipHeaderRecord(true).get();
    Map<String, Target> targets = new LinkedHashMap<>();
    try (Reader reader = new InputStreamReader(in, StandardCharsets.UTF_8)) {
      for (CSVRecord record : format.parse(reader)) {
        boolean atLeast =
            switch (record.get("bound")) {
              case "at least" -> true;
              case "at most" -> false;
              default -> throw new IllegalStateException(TABLE + ": " + record);
            };
        Target before =
            targets.put(
                record.get("row"), new Target(atLeast, Double.parseDouble(record.get("target"))));
        if (before != null) {
          throw new IllegalStateException(TABLE + ": twice: " + record);
        }
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return targets;
  }

  boolean isReached(double value) {
    return atLeast ? value >= number : value <= number;
  }

  @Override
  public String toString() {
    return (atLeast ? "≥ " : "≤ ") + Spread.number(number);
  }
}
