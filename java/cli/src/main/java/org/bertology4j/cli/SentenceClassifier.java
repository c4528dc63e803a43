package org.bertology4j.cli;

import de.bwaldvogel.liblinear.Feature;
import de.bwaldvogel.liblinear.FeatureNode;
import de.bwaldvogel.liblinear.Linear;
import de.bwaldvogel.liblinear.Parameter;
import de.bwaldvogel.liblinear.Problem;
import de.bwaldvogel.liblinear.SolverType;
import java.util.List;
import org.bertology4j.Batch;
import org.bertology4j.Capture;
import org.bertology4j.ModelConfig;
import org.bertology4j.ModelReplicas;
import org.bertology4j.RunOptions;
import org.bertology4j.text.Dataset;
import org.bertology4j.text.UciSentences;

/** A linear classifier of the UCI sentences on a frozen model's sentence vectors. */
public final class SentenceClassifier {
  /** scikit-learn's C; components of unit vectors are small, so its default of 1 binds too much. */
  private static final double CLASSIFIER_C = 10;

  private SentenceClassifier() {}

  /** Logistic regression on the frozen sentence vectors becomes the model's classifier. */
  public static void train(ModelReplicas models, List<Batch> batches, Dataset data) {
    int width = models.first().config().hiddenSize();
    // The vectors are what a classifier with this pooling sees.
    setClassifier(models, new float[2][width], new float[2]);
    Problem problem = new Problem();
    problem.l = data.size();
    problem.n = width + 1;
    problem.bias = 1;
    problem.x = new Feature[data.size()][width + 1];
    problem.y = new double[data.size()];
    int[] example = {0};
    models.run(
        Progress.over("vectors", batches),
        RunOptions.capturing(Capture.POOLER_OUTPUT),
        run -> {
          for (int b = 0; b < run.batch().examples(); b++, example[0]++) {
            float[] vector = run.poolerOutput(b).toArray();
            for (int i = 0; i < width; i++) {
              problem.x[example[0]][i] = new FeatureNode(i + 1, vector[i]);
            }
            problem.x[example[0]][width] = new FeatureNode(width + 1, 1);
            problem.y[example[0]] = data.classOf(example[0]);
          }
        });
    Linear.disableDebugOutput();
    Parameter parameter = new Parameter(SolverType.L2R_LR, CLASSIFIER_C, 1e-6);
    parameter.setRegularizeBias(false);
    de.bwaldvogel.liblinear.Model trained = Linear.train(problem, parameter);
    double sign =
        trained.getLabels()[0] == 1 ? 0.5 : -0.5; // the weights are those of its first label
    double[] weights = trained.getFeatureWeights();
    float[][] weight = new float[2][width];
    float[] bias = new float[2];
    for (int i = 0; i < width; i++) {
      weight[1][i] = (float) (sign * weights[i]);
      weight[0][i] = -weight[1][i];
    }
    bias[1] = (float) (sign * weights[width]);
    bias[0] = -bias[1];
    setClassifier(models, weight, bias);
  }

  private static void setClassifier(ModelReplicas models, float[][] weight, float[] bias) {
    models.forEach(
        model ->
            model.setClassifier(
                UciSentences.LABELS.names(), ModelConfig.Pooling.CLS_NORMALIZED, weight, bias));
  }
}
