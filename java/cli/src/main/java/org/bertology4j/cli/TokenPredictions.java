package org.bertology4j.cli;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.bertology4j.Activations;
import org.bertology4j.BertologyException;
import org.bertology4j.Capture;
import org.bertology4j.LanguageModelScore;

/** What a language model predicted for each token. */
final class TokenPredictions implements TaskPass.Predictions {
  /** The mean loss of a token, in nats: what is compared, because it adds up. */
  static final String LOG_PERPLEXITY = "log_perplexity";

  static final String PERPLEXITY = "perplexity";
  static final String ACCURACY = "next_token_acc";

  private final LanguageModelScore.Accumulator tokens = new LanguageModelScore.Accumulator();

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
  public void add(Activations run) {
    tokens.accept(run);
  }

  @Override
  public Map<String, Double> scores() {
    LanguageModelScore score = tokens.result();
    return new TreeMap<>(
        Map.of(
            LOG_PERPLEXITY, score.meanLoss(),
            PERPLEXITY, score.perplexity(),
            ACCURACY, score.accuracy()));
  }
}
