package org.bertology4j.benchmarks;

import java.util.ArrayList;
import java.util.List;
import org.apache.commons.math3.stat.correlation.SpearmansCorrelation;
import org.bertology4j.Batch;
import org.bertology4j.DType;
import org.bertology4j.HeadImportance;
import org.bertology4j.HeadScores;
import org.bertology4j.Model;
import org.bertology4j.ModelReplicas;
import org.bertology4j.cli.SentenceClassifier;
import org.bertology4j.text.Batches;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.Tokenizer;
import org.bertology4j.text.UciSentences;

/** Whether bfloat16 ranks the heads of a trained model as float32 does. */
final class Ranks {
  static final String NAME = "ranks-bfloat16";
  static final String ROW = NAME + "/float32";
  private static final String TITLE =
      "ranks of bge-small's heads by importance on the UCI training sentences";
  private static final String OTHER = "ranks in float32";
  private static final int TOKENS_PER_BATCH = 4096;
  private static final int QUICK_PART = 8;

  private Ranks() {}

  static void run(Session session, Setting setting, boolean quick) {
    if (setting.isTiny()) {
      session.add(Row.notRun(ROW, TITLE, OTHER, "a tiny model is not trained"));
      return;
    }
    if (!setting.device().supports(DType.BFLOAT16)) {
      session.add(Row.notRun(ROW, TITLE, OTHER, "this processor does not multiply bfloat16"));
      return;
    }
    Dataset all = UciSentences.load().train();
    Dataset sentences = quick ? all.select(i -> i % QUICK_PART == 0) : all;
    double[] exact = importance(setting, sentences, DType.FLOAT32);
    double[] rounded = importance(setting, sentences, DType.BFLOAT16);
    List<Double> spearman = List.of(new SpearmansCorrelation().correlation(rounded, exact));
    session.add(new Benchmark(NAME, Measure.RATIO, spearman, List.of()));
    session.add(
        new Row(
            ROW, TITLE, OTHER, "Spearman", spearman, List.of(), List.of(), List.of(), List.of()));
  }

  private static double[] importance(Setting setting, Dataset sentences, DType dtype) {
    try (Model model = setting.load(Subject.BGE_SMALL, dtype);
        Tokenizer tokenizer = Tokenizer.load(Subject.bgeSmallFolder())) {
      List<Batch> batches = Batches.ofTokens(tokenizer, sentences, TOKENS_PER_BATCH);
      SentenceClassifier.train(ModelReplicas.of(model), batches, sentences);
      HeadScores scores =
          HeadImportance.measure(model, batches)
              .scores(HeadImportance.Kind.PAPER)
              .normalizedByLayer();
      List<Double> flat = new ArrayList<>();
      for (double[] layer : scores.toArray()) {
        for (double score : layer) {
          flat.add(score);
        }
      }
      return flat.stream().mapToDouble(Double::doubleValue).toArray();
    }
  }
}
