package org.bertology4j;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.OptionalInt;
import java.util.function.Consumer;

/**
 * How much each head matters, from the gradients of the loss with respect to the head mask,
 * measured in one pass over a data set. The batch size has no effect on any score but {@link
 * Kind#HF}. Immutable; parts of a data set are measured apart and {@linkplain Accumulator#merge
 * merged}.
 *
 * <p>With g the gradient of an example's loss with respect to a head's mask, and g_i the part of it
 * that token i adds.
 */
public final class HeadImportance {
  /** Definitions of importance. */
  public enum Kind {
    /** Mean over examples of |g|: the formula of Michel, Levy and Neubig 2019. */
    PAPER,
    /**
     * Sum over examples and tokens of |g_i|, divided by the number of tokens, in the last layer by
     * the number of examples: what the code of Michel et al. computes.
     */
    PER_TOKEN,
    /** Mean over examples of g: positive for a head of which less would lower the loss. */
    SIGNED,
    /** Mean over examples of g squared: the diagonal Fisher information of the mask. */
    SQUARED,
    /**
     * What Hugging Face's run_bertology.py prints: the gradients of the batches' mean losses are
     * never reset, so that step k adds |g_1 + ... + g_k|, and the sum is divided by the number of
     * tokens. It depends on the batch size and on the order of the data; it is here to reproduce
     * old results.
     */
    HF
  }

  private final Accumulator collected;

  private HeadImportance(Accumulator collected) {
    this.collected = collected;
  }

  /** Measures over these batches. They need labels. */
  public static HeadImportance measure(Model model, Iterable<Batch> batches) {
    return measure(model, batches, new Accumulator(model), run -> {});
  }

  /** Measures over these batches, divided among the devices of the models. They need labels. */
  public static HeadImportance measure(ModelReplicas models, Iterable<Batch> batches) {
    return measure(models, batches, new Accumulator(models.first()), run -> {});
  }

  /**
   * Measures over these batches, adding to what the accumulator has; see {@link
   * #measure(ModelReplicas, Iterable, Accumulator, Consumer, Capture...)}.
   */
  public static HeadImportance measure(
      Model model,
      Iterable<Batch> batches,
      Accumulator accumulator,
      Consumer<Activations> alongside,
      Capture... more) {
    return measure(ModelReplicas.of(model), batches, accumulator, alongside, more);
  }

  /**
   * Measures over these batches, divided among the devices of the models, adding to what the
   * accumulator has. The gradients are added up on the devices. An interrupt ends it with {@link
   * BertologyException.Kind#INTERRUPTED}; the accumulator then has the batches that were finished.
   *
   * @param accumulator has the gradients when this returns, all else after each batch
   * @param alongside is shown each run, for example to collect predictions from {@link
   *     Activations#logits}, in the order of the batches, in the calling thread
   * @param more captures that it needs
   */
  public static HeadImportance measure(
      ModelReplicas models,
      Iterable<Batch> batches,
      Accumulator accumulator,
      Consumer<Activations> alongside,
      Capture... more) {
    List<Capture> captures = new ArrayList<>(List.of(more));
    captures.addAll(accumulator.captures());
    RunOptions captured = RunOptions.capturing(captures.toArray(new Capture[0]));
    RunOptions options = accumulator.masked ? captured.maskedGradients() : captured;
    try (DeviceSums sums = new DeviceSums(models)) {
      try {
        models.run(
            batches,
            model -> options.accumulating(sums.of(model)),
            run -> {
              accumulator.add(run);
              alongside.accept(run);
            },
            accumulator::add);
      } catch (RuntimeException | Error e) {
        try {
          accumulator.add(sums);
        } catch (BertologyException lost) {
          e.addSuppressed(lost);
        }
        throw e;
      }
      accumulator.add(sums);
    }
    return accumulator.result();
  }

  /** Sums on the device of each model. */
  private static final class DeviceSums implements AutoCloseable {
    private final List<HeadGradientAccumulator> ofModels = new ArrayList<>();

    DeviceSums(ModelReplicas models) {
      try {
        models.forEach(model -> ofModels.add(new HeadGradientAccumulator(model)));
      } catch (RuntimeException | Error e) {
        close();
        throw e;
      }
    }

    HeadGradientAccumulator of(int model) {
      return ofModels.get(model);
    }

    HeadGradientSums read() {
      return ofModels.stream()
          .map(HeadGradientAccumulator::read)
          .reduce(HeadGradientSums::plus)
          .orElseThrow();
    }

    @Override
    public void close() {
      ofModels.forEach(HeadGradientAccumulator::close);
    }
  }

  /**
   * The statistics of measurements. Not safe for use from several threads: give each its own and
   * merge them.
   */
  public static final class Accumulator {
    private final int layers;
    private final int heads;
    private final boolean[][] scored;
    private HeadGradientSums sums;
    private final double[][] entropy;
    private final double[][] relativeEntropy;
    private final boolean causal;
    private final List<List<Integer>> present;
    private boolean entropies;
    private boolean masked;
    private OptionalInt hfBatchSize = OptionalInt.empty();
    private final List<float[]> gradients = new ArrayList<>();
    private final List<Integer> weights = new ArrayList<>();
    private long examples;
    private long tokens;
    private long choosingTokens;
    private double loss;

    /** Collects for the heads that the model has and does not mask. */
    public Accumulator(Model model) {
      ModelConfig config = model.config();
      layers = config.numHiddenLayers();
      heads = config.numAttentionHeads();
      scored = new boolean[layers][heads];
      sums = HeadGradientSums.none(layers, heads);
      entropy = new double[layers][heads];
      relativeEntropy = new double[layers][heads];
      causal = config.architecture().isCausal();
      present = new ArrayList<>();
      HeadMask mask = model.headMask();
      for (int l = 0; l < layers; l++) {
        present.add(model.heads(l));
        for (int head : present.get(l)) {
          scored[l][head] = mask.get(l, head) != 0f;
        }
      }
    }

    /**
     * Collects the entropies of attention too, which takes the last layer's attention for all
     * tokens.
     */
    public Accumulator withEntropies() {
      entropies = true;
      return this;
    }

    /** Scores masked heads too: what their gradient would be. run_bertology.py does. */
    public Accumulator withMaskedHeads() {
      masked = true;
      for (int l = 0; l < layers; l++) {
        for (int head : present.get(l)) {
          scored[l][head] = true;
        }
      }
      return this;
    }

    /**
     * Keeps what {@link Kind#HF} needs, for batches of this size: the gradients of every example.
     */
    public Accumulator withHf(int batchSize) {
      BertologyException.check(batchSize > 0, "batch size %d", batchSize);
      hfBatchSize = OptionalInt.of(batchSize);
      return this;
    }

    /** What runs must capture beside the sums of their gradients. */
    private List<Capture> captures() {
      List<Capture> captures = new ArrayList<>(List.of(Capture.LOSS));
      if (entropies) {
        captures.add(Capture.ATTENTION_ENTROPIES);
      }
      if (hfBatchSize.isPresent()) {
        // Its batches need not be those that are run, and it weighs examples by their labels.
        captures.add(Capture.HEAD_GRADIENTS);
      }
      return captures;
    }

    /** Adds what a run shows; the sums of its gradients come later. */
    private void add(Activations run) {
      Batch batch = run.batch();
      float[] losses = run.loss().toArray();
      for (int b = 0; b < batch.examples(); b++) {
        loss += losses[b];
        if (entropies) {
          addEntropies(run, b);
        }
      }
      if (hfBatchSize.isPresent()) {
        float[] all = run.headGradients().toArray();
        int size = layers * heads;
        for (int b = 0; b < batch.examples(); b++) {
          gradients.add(Arrays.copyOfRange(all, b * size, (b + 1) * size));
          weights.add(labelled(batch, b));
        }
      }
      examples += batch.examples();
      tokens += batch.tokens();
    }

    private void add(DeviceSums more) {
      sums = sums.plus(more.read());
    }

    /** What the example's loss weighs in the mean loss of a batch, as Hugging Face takes it. */
    private static int labelled(Batch batch, int example) {
      return batch.predictsTokens() ? batch.predictedTokens(example) : 1;
    }

    private void addEntropies(Activations run, int example) {
      int length = run.batch().length(example);
      for (int l = 0; l < layers; l++) {
        float[] ofLayer = run.attentionEntropy(l, example).toArray();
        for (int k = 0; k < present.get(l).size(); k++) {
          int head = present.get(l).get(k);
          for (int i = 0; i < length; i++) {
            double h = ofLayer[k * length + i];
            entropy[l][head] += h;
            relativeEntropy[l][head] += seen(i, length) > 1 ? h / Math.log(seen(i, length)) : 0;
          }
        }
      }
      for (int i = 0; i < length; i++) {
        choosingTokens += seen(i, length) > 1 ? 1 : 0;
      }
    }

    /** How many tokens a token attends to. */
    private int seen(int token, int length) {
      return causal ? token + 1 : length;
    }

    /**
     * Adds what another accumulator of the same model has collected, as if its runs had followed
     * these.
     */
    public void merge(Accumulator other) {
      BertologyException.check(
          other.layers == layers
              && other.heads == heads
              && Arrays.deepEquals(other.scored, scored)
              && other.entropies == entropies
              && other.hfBatchSize.equals(hfBatchSize),
          "the parts were measured on different heads or with different options");
      for (int l = 0; l < layers; l++) {
        for (int h = 0; h < heads; h++) {
          entropy[l][h] += other.entropy[l][h];
          relativeEntropy[l][h] += other.relativeEntropy[l][h];
        }
      }
      sums = sums.plus(other.sums);
      gradients.addAll(other.gradients);
      weights.addAll(other.weights);
      examples += other.examples;
      tokens += other.tokens;
      choosingTokens += other.choosingTokens;
      loss += other.loss;
    }

    /** Examples added so far. */
    public long examples() {
      return examples;
    }

    /** The importance over what was added so far; later additions do not change it. */
    public HeadImportance result() {
      BertologyException.check(examples > 0, "importance needs at least one example");
      if (sums.examples() != examples) {
        throw new BertologyException(
            BertologyException.Kind.DEVICE,
            String.format(
                "of %d examples the gradients of %d are there: a device failed before the sums were"
                    + " read",
                examples, sums.examples()));
      }
      return new HeadImportance(copy());
    }

    private Accumulator copy() {
      Accumulator copy = new Accumulator(layers, heads, scored, present, causal);
      copy.entropies = entropies;
      copy.masked = masked;
      copy.hfBatchSize = hfBatchSize;
      copy.merge(this);
      return copy;
    }

    private Accumulator(
        int layers, int heads, boolean[][] scored, List<List<Integer>> present, boolean causal) {
      this.causal = causal;
      this.layers = layers;
      this.heads = heads;
      this.scored = Arrays.stream(scored).map(boolean[]::clone).toArray(boolean[][]::new);
      this.present = present;
      sums = HeadGradientSums.none(layers, heads);
      entropy = new double[layers][heads];
      relativeEntropy = new double[layers][heads];
    }

    private double[][] hf() {
      int batchSize =
          hfBatchSize.orElseThrow(
              () -> BertologyException.invalid("HF importance needs withHf(batchSize)"));
      double[][] result = new double[layers][heads];
      double[] running = new double[layers * heads];
      for (int first = 0; first < gradients.size(); first += batchSize) {
        int last = Math.min(gradients.size(), first + batchSize);
        double weight = 0;
        for (int b = first; b < last; b++) {
          weight += weights.get(b);
        }
        for (int b = first; b < last; b++) {
          for (int i = 0; i < running.length; i++) {
            running[i] += gradients.get(b)[i] * weights.get(b) / weight;
          }
        }
        for (int i = 0; i < running.length; i++) {
          result[i / heads][i % heads] += Math.abs(running[i]);
        }
      }
      return result;
    }
  }

  /** The scores under a definition, as it stands, without normalisation. */
  public HeadScores scores(Kind kind) {
    double[][] raw =
        switch (kind) {
          case PAPER -> collected.sums.absolute();
          case PER_TOKEN -> collected.sums.tokenAbsolute();
          case SIGNED -> collected.sums.signed();
          case SQUARED -> collected.sums.squared();
          case HF -> collected.hf();
        };
    double[][] scores = new double[collected.layers][collected.heads];
    for (int l = 0; l < collected.layers; l++) {
      double count = collected.examples;
      if (kind == Kind.HF || (kind == Kind.PER_TOKEN && l < collected.layers - 1)) {
        count = collected.tokens;
      }
      for (int h = 0; h < collected.heads; h++) {
        scores[l][h] = collected.scored[l][h] ? raw[l][h] / count : Double.NaN;
      }
    }
    return HeadScores.of(scores);
  }

  /**
   * The mean entropy of each head's attention over all tokens, in nats; NaN for pruned heads. Needs
   * {@link Accumulator#withEntropies}.
   */
  public HeadScores entropy() {
    return meanEntropy(collected.entropy, collected.tokens);
  }

  /**
   * The same relative to the largest that each token could have: the logarithm of how many tokens
   * it sees, for token i of a causal model ln(i + 1). From 0 to 1, over the tokens that see two or
   * more.
   */
  public HeadScores relativeEntropy() {
    return meanEntropy(collected.relativeEntropy, collected.choosingTokens);
  }

  private HeadScores meanEntropy(double[][] total, long count) {
    BertologyException.check(collected.entropies, "entropies were not asked for: withEntropies()");
    double[][] mean = new double[collected.layers][collected.heads];
    for (int l = 0; l < collected.layers; l++) {
      for (int h = 0; h < collected.heads; h++) {
        mean[l][h] = collected.present.get(l).contains(h) ? total[l][h] / count : Double.NaN;
      }
    }
    return HeadScores.of(mean);
  }

  /** A plan in ascending order of the paper's importance, normalised by layer. */
  public PruningPlan plan() {
    return scores(Kind.PAPER).normalizedByLayer().plan();
  }

  /** Number of examples that it was measured on. */
  public long examples() {
    return collected.examples;
  }

  /** Number of tokens that it was measured on. */
  public long tokens() {
    return collected.tokens;
  }

  /** The mean of the examples' losses. */
  public double meanLoss() {
    return collected.loss / collected.examples;
  }
}
