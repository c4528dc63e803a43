package org.bertology4j.cli;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.bertology4j.Activations;
import org.bertology4j.BertologyException;
import org.bertology4j.Capture;
import org.bertology4j.LanguageModelScore;

/** What a language model predicts: of each run the tokens, their losses, and the right ones. */
final class TokenPredictions implements Predictions {
  /** The mean loss of a token, in nats: what is compared, because it adds up. */
  static final String LOG_PERPLEXITY = "log_perplexity";

  static final String PERPLEXITY = "perplexity";
  static final String ACCURACY = "next_token_acc";

  /** Whether more of a score is better. */
  static boolean higherIsBetter(String metricName) {
    return metricName.equals(ACCURACY);
  }

  /** Throws unless there is such a score. */
  static void check(String metricName) {
    List<String> known = List.of(LOG_PERPLEXITY, PERPLEXITY, ACCURACY);
    BertologyException.check(
        known.contains(metricName),
        "a language model has no metric \"%s\", it has %s",
        metricName,
        String.join(", ", known));
  }

  @Override
  public List<Capture> captures() {
    return LanguageModelScore.Accumulator.CAPTURES;
  }

  @Override
  public double[] read(Activations run) {
    LanguageModelScore.Accumulator one = new LanguageModelScore.Accumulator();
    one.accept(run);
    LanguageModelScore score = one.result();
    long tokens = score.tokens();
    return new double[] {tokens, score.meanLoss() * tokens, Math.rint(score.accuracy() * tokens)};
  }

  @Override
  public Map<String, Double> scores(List<double[]> runs) {
    double[] sums = new double[3];
    runs.forEach(run -> Arrays.setAll(sums, i -> sums[i] + run[i]));
    LanguageModelScore score =
        new LanguageModelScore((long) sums[0], sums[1] / sums[0], sums[2] / sums[0]);
    return new TreeMap<>(
        Map.of(
            LOG_PERPLEXITY, score.meanLoss(),
            PERPLEXITY, score.perplexity(),
            ACCURACY, score.accuracy()));
  }
}
