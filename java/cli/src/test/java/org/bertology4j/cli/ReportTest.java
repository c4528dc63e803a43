package org.bertology4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.bertology4j.Batch;
import org.bertology4j.HeadImportance;
import org.bertology4j.HeadScores;
import org.bertology4j.Model;
import org.bertology4j.ModelReplicas;
import org.bertology4j.PruningPlan;
import org.bertology4j.PruningSchedule;
import org.bertology4j.text.Batches;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.DatasetReader;
import org.bertology4j.text.Metric;
import org.bertology4j.text.Tokenizer;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Pruning curves of a model, as text and as a page. */
class ReportTest {
  private static final double[] FRACTIONS = {0.25, 0.5, 0.75};

  @TempDir Path temporary;
  private PruningCurves curves;
  private HeadScores scores;
  private List<List<PruningSchedule.Step>> random;

  @BeforeEach
  void followThreeOrders() {
    Path folder = Tiny.classifier(temporary.resolve("model"), "0", "1");
    Path file =
        Tiny.table(
            temporary.resolve("data.tsv"),
            "text\tlabel",
            Tiny.sentences(30, 10, 1),
            Tiny.labels(30, 2, "0", "1"));
    curves = new PruningCurves(FRACTIONS);
    try (Model model = Model.load(folder);
        Tokenizer tokenizer = Tokenizer.load(folder)) {
      Dataset data = DatasetReader.builder().label("label").build().read(file);
      List<Batch> batches = Batches.ofTokens(tokenizer, data, 100);
      Map<String, Metric> metrics = Map.of("acc", Metric.ACC);
      TaskPass pass =
          new TaskPass(ModelReplicas.of(model), batches, new LabelPredictions(data, metrics));
      HeadImportance importance = HeadImportance.measure(model, batches);
      scores = importance.scores(HeadImportance.Kind.PAPER);
      curves.add("least <first>", List.of(follow(model, pass, scores.plan())));
      random =
          List.of(
              follow(model, pass, PruningPlan.random(model, 1)),
              follow(model, pass, PruningPlan.random(model, 2)));
      curves.add("random", random);
    }
  }

  private static List<PruningSchedule.Step> follow(Model model, TaskPass pass, PruningPlan plan) {
    List<PruningSchedule.Step> steps =
        PruningSchedule.of(FRACTIONS)
            .inPlace()
            .follow(model, plan, mask -> pass.scores("pruning", mask).get("acc"), s -> {});
    model.restoreHeads();
    return steps;
  }

  @Test
  void curvesHoldMeansAndExtremes() {
    assertEquals(List.of(0.0, 0.25, 0.5, 0.75), curves.fractions());
    PruningCurves.Curve least = curves.curves().get(0);
    assertEquals(least.means(), least.least());
    assertEquals(least.means(), least.greatest());
    PruningCurves.Curve drawn = curves.curves().get(1);
    assertEquals(least.means().get(0), drawn.means().get(0), "all begin with the whole model");
    for (int i = 0; i < 4; i++) {
      double one = random.get(0).get(i).score();
      double other = random.get(1).get(i).score();
      assertEquals((one + other) / 2, drawn.means().get(i), 1e-12);
      assertEquals(Math.min(one, other), drawn.least().get(i));
      assertEquals(Math.max(one, other), drawn.greatest().get(i));
    }
  }

  @Test
  void curvesAsText() {
    StringWriter text = new StringWriter();
    curves.print(new PrintWriter(text, true), "Accuracy");
    List<String> lines = text.toString().lines().toList();
    assertEquals("Accuracy", lines.get(0));
    assertTrue(lines.get(1).endsWith("      0 %     25 %     50 %     75 %"), lines.get(1));
    assertTrue(lines.get(2).startsWith("least <first>    0."), lines.get(2));
    assertTrue(lines.get(3).startsWith("random           0."), lines.get(3));
    assertEquals(lines.get(1).length(), lines.get(2).length());
  }

  @Test
  void thePageNeedsNothingBesideItself() throws Exception {
    Path file = temporary.resolve("report.html");
    CurveReport.write(file, "Heads & tails", "of a <tiny> model", "accuracy", curves, scores);
    String page = Files.readString(file);
    assertTrue(page.startsWith("<!DOCTYPE html>"));
    assertFalse(Pattern.compile("@[A-Z_]+@").matcher(page).find(), "every place is filled");
    Pattern script = Pattern.compile("<script>(.*?)</script>", Pattern.DOTALL);
    String markup = script.matcher(page).replaceAll("");
    assertAbsent("(?i)<(script|link|img|iframe|object|embed|base|video|audio)\\b", markup);
    assertAbsent("(?i)\\b(src|href|srcset|action)\\s*=", markup);
    assertAbsent("(?i)@import|url\\(", markup);
    assertAbsent("//", markup);
    String comment = "/\\*.*?\\*/";
    String code =
        script
            .matcher(page)
            .results()
            .map(found -> found.group(1).replaceAll("(?s)" + comment, ""))
            .collect(Collectors.joining());
    assertAbsent("https?://", code);
    assertAbsent("\\b(fetch|import|importScripts)\\s*\\(", code);
    assertAbsent("XMLHttpRequest|WebSocket|EventSource|sendBeacon|\\.src\\s*=", code);
    assertEquals(2, page.split("</script>", -1).length - 1, "the script does not end early");
    assertTrue(page.contains("Chart.js"));
    assertTrue(page.contains("<h1>Heads &amp; tails</h1>"));
    assertTrue(page.contains("of a &lt;tiny&gt; model"));
    assertTrue(page.contains("Shaded: "));
  }

  private static void assertAbsent(String pattern, String text) {
    Matcher matcher = Pattern.compile(pattern).matcher(text);
    assertFalse(matcher.find(), () -> "found " + matcher.group());
  }

  @Test
  void thePageHasTheNumbers() throws Exception {
    Path file = temporary.resolve("report.html");
    CurveReport.write(file, "title", "subtitle", "accuracy", curves, scores);
    String page = Files.readString(file);
    Matcher data = Pattern.compile("const report = (\\{.*\\});").matcher(page);
    assertTrue(data.find());
    JsonObject json = JsonParser.parseString(data.group(1)).getAsJsonObject();
    assertEquals("accuracy", json.get("score").getAsString());
    assertEquals(4, json.getAsJsonArray("fractions").size());
    JsonObject least = json.getAsJsonArray("curves").get(0).getAsJsonObject();
    assertEquals("least <first>", least.get("name").getAsString());
    assertEquals(
        curves.curves().get(0).means().get(3), least.getAsJsonArray("means").get(3).getAsDouble());
    assertTrue(page.contains("<th scope=\"row\">least &lt;first&gt;</th><td>0."));
    assertTrue(page.contains("<th scope=\"col\">75 %</th>"));
    // One cell for each head, the least 0 and the greatest 1.
    Matcher cells = Pattern.compile("<td style=\"[^\"]*\">([01]\\.\\d\\d)</td>").matcher(page);
    List<String> values = cells.results().map(found -> found.group(1)).toList();
    assertEquals(Tiny.LAYERS * Tiny.HEADS, values.size());
    assertTrue(values.contains("0.00") && values.contains("1.00"), values.toString());
  }
}
