package org.bertology4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code bertology run} without a model, with a small one in place of that which comes along. */
class EmbeddedRunTest {
  @TempDir Path temporary;

  @Test
  void trainsMeasuresPrunesAndReports() throws Exception {
    Tiny.encoder(temporary.resolve("models/bge-small-en-v1.5"));
    Path output = temporary.resolve("results");
    System.setProperty("bertology.home", temporary.toString());
    String said;
    try {
      said = Cli.succeeds("run", "--output_dir", output);
    } finally {
      System.clearProperty("bertology.home");
    }
    assertTrue(said.contains("importance of 12 heads from 2400 sentences"), said);
    assertTrue(said.contains("least important first"), said);
    try (Stream<Path> files = Files.list(output)) {
      assertEquals(
          Set.of("attn_entropy.npy", "head_importance.npy", "report.html", "results.json"),
          files
              .map(f -> f.getFileName().toString())
              .collect(Collectors.toCollection(TreeSet::new)));
    }
    assertEquals(Tiny.LAYERS, Npy.read(output.resolve("head_importance.npy")).length);
    JsonObject results =
        JsonParser.parseString(Files.readString(output.resolve("results.json"))).getAsJsonObject();
    int steps = results.getAsJsonArray("fractions").size();
    double whole = -1;
    for (Map.Entry<String, JsonElement> curve : results.getAsJsonObject("accuracy").entrySet()) {
      JsonArray scores = curve.getValue().getAsJsonArray();
      assertEquals(steps, scores.size());
      whole = whole < 0 ? scores.get(0).getAsDouble() : whole;
      assertEquals(whole, scores.get(0).getAsDouble(), "every order begins with the whole model");
    }
    assertTrue(whole > 0.5, "better than chance: " + whole);
    String page = Files.readString(output.resolve("report.html"));
    for (String order : List.of("least important first", "most important first")) {
      assertTrue(page.contains("<th scope=\"row\">" + order + "</th>"), order);
    }
  }
}
