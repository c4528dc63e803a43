package org.bertology4j.cli;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import org.bertology4j.HeadScores;
import org.bertology4j.checkpoint.AtomicFiles;

/**
 * Pruning curves as a page that needs nothing beside itself: a chart, the table, and a map of the
 * heads' importance.
 */
final class CurveReport {
  private static final String CHART_SCRIPT =
      "/META-INF/resources/webjars/chart.js/4.4.9/dist/chart.umd.js";

  /** Where white is easier to read on the cell's colour than black. */
  private static final double WHITE_ABOVE = 0.65;

  private CurveReport() {}

  static void write(
      Path file,
      String title,
      String subtitle,
      String score,
      PruningCurves curves,
      HeadScores importance) {
    // Special characters of HTML are escaped in the JSON too, so that it may stand in a script.
    Gson gson = new GsonBuilder().create();
    Map<String, Object> data = new LinkedHashMap<>();
    data.put("score", score);
    data.put("fractions", curves.fractions());
    data.put("curves", curves.curves());
    String page =
        resource("report.html")
            .replace("@TITLE@", escape(title))
            .replace("@SUBTITLE@", escape(subtitle))
            .replace("@NOTE@", note(curves))
            .replace("@TABLE@", table(curves))
            .replace("@HEADS@", heads(importance))
            .replace("@DATA@", gson.toJson(data))
            .replace("@CHART_SCRIPT@", resource(CHART_SCRIPT).replace("</script", "<\\/script"));
    AtomicFiles.writeString(file, page);
  }

  private static String note(PruningCurves curves) {
    boolean spread =
        curves.curves().stream().anyMatch(curve -> !curve.least().equals(curve.greatest()));
    return spread ? "Shaded: from the lowest to the highest of the orders that were drawn." : "";
  }

  private static String table(PruningCurves curves) {
    StringBuilder html = new StringBuilder("<tr><th scope=\"col\">heads removed</th>");
    curves
        .fractions()
        .forEach(
            fraction ->
                html.append(
                    String.format(Locale.ROOT, "<th scope=\"col\">%.0f %%</th>", 100 * fraction)));
    html.append("</tr>\n");
    for (PruningCurves.Curve curve : curves.curves()) {
      html.append("<tr><th scope=\"row\">").append(escape(curve.name())).append("</th>");
      curve.means().forEach(mean -> html.append(String.format(Locale.ROOT, "<td>%.3f</td>", mean)));
      html.append("</tr>\n");
    }
    return html.toString();
  }

  /** A cell for each head, the darker the more important. */
  private static String heads(HeadScores importance) {
    HeadScores scaled = importance.normalizedGlobally();
    StringBuilder html = new StringBuilder("<tr><th scope=\"col\">layer \\ head</th>");
    for (int h = 0; h < scaled.heads(); h++) {
      html.append("<th scope=\"col\">").append(h).append("</th>");
    }
    html.append("</tr>\n");
    for (int l = 0; l < scaled.layers(); l++) {
      html.append("<tr><th scope=\"row\">").append(l).append("</th>");
      for (int h = 0; h < scaled.heads(); h++) {
        if (!scaled.has(l, h)) {
          html.append("<td>–</td>");
          continue;
        }
        double value = scaled.get(l, h);
        html.append(
            String.format(
                Locale.ROOT,
                "<td style=\"background:hsl(212 60%% %.0f%%);color:%s\">%.2f</td>",
                97 - 62 * value,
                value > WHITE_ABOVE ? "#fff" : "#111",
                value));
      }
      html.append("</tr>\n");
    }
    return html.toString();
  }

  private static String escape(String text) {
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;");
  }

  private static String resource(String name) {
    try (InputStream in = CurveReport.class.getResourceAsStream(name)) {
      if (in == null) {
        throw new IllegalStateException("resource " + name + " is missing");
      }
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new IllegalStateException("resource " + name, e);
    }
  }
}
