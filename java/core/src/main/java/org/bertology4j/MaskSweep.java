package org.bertology4j;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;
import java.util.stream.IntStream;

/**
 * Scores of a model under many head masks over the same data. Each batch runs once for all masks:
 * what they have in common is computed once ({@link RunOptions#headMasks}), and the scores are
 * those of as many passes with one mask each. Masking every head of a model in turn takes half the
 * time.
 *
 * <p>With a file ({@link #savingTo}), what was finished is kept: an interrupted sweep that is begun
 * again goes on behind its last batch, and gives the numbers of one that was never interrupted.
 *
 * <p>Immutable; safe for use from many threads without a file, from one with it. The models must
 * stay as they are while it is in use.
 */
public final class MaskSweep {
  private final ModelReplicas models;
  private final List<Batch> batches;
  private final MaskScorer scorer;
  private final Optional<SweepFile> file;
  private final Function<List<Batch>, Iterable<Batch>> progress;

  private MaskSweep(
      ModelReplicas models,
      List<Batch> batches,
      MaskScorer scorer,
      Optional<SweepFile> file,
      Function<List<Batch>, Iterable<Batch>> progress) {
    this.models = models;
    this.batches = batches;
    this.scorer = scorer;
    this.file = file;
    this.progress = progress;
  }

  /** Sweeps of a model over these batches; smaller ones end sooner when interrupted. */
  public static MaskSweep of(Model model, List<Batch> batches, MaskScorer scorer) {
    return of(ModelReplicas.of(model), batches, scorer);
  }

  /** Sweeps over these batches, divided among the devices of the models. */
  public static MaskSweep of(ModelReplicas models, List<Batch> batches, MaskScorer scorer) {
    BertologyException.check(!batches.isEmpty(), "a sweep needs at least one batch");
    return new MaskSweep(models, List.copyOf(batches), scorer, Optional.empty(), some -> some);
  }

  /**
   * The same with a file that keeps what each batch gave. If it is there, and of the same sweep,
   * what it has is not computed again.
   *
   * @param what is swept, such as its kind and a seed: a file that says otherwise, or is of other
   *     weights, pruned heads, data or another scorer, is refused
   * @throws BertologyException INVALID_ARGUMENT if the file is of another sweep or damaged; IO if
   *     it cannot be read or written
   */
  public MaskSweep savingTo(Path path, String what) {
    Fingerprint fingerprint = new Fingerprint().add(what).add(scorer.name());
    model().addTo(fingerprint);
    batches.forEach(fingerprint::add);
    String sweep =
        String.format(
            "%s, %s of %d batches, %s", what, scorer.name(), batches.size(), model().config());
    SweepFile opened = new SweepFile(path, sweep, fingerprint.hex());
    return new MaskSweep(models, batches, scorer, Optional.of(opened), progress);
  }

  /**
   * The same, and what is to be run goes through this, for example to show how far it is.
   *
   * @param through gives the batches of its argument, one by one and in order
   */
  public MaskSweep through(Function<List<Batch>, Iterable<Batch>> through) {
    return new MaskSweep(models, batches, scorer, file, through);
  }

  /** The model, or the first of several. */
  public Model model() {
    return models.first();
  }

  /** How masks are scored. */
  public MaskScorer scorer() {
    return scorer;
  }

  /**
   * The score under each of these masks, which are used as they are: heads that the model itself
   * masks count if they say so. An interrupt ends it with {@link
   * BertologyException.Kind#INTERRUPTED}; the file then has the batches that were finished.
   */
  public double[] scores(List<HeadMask> masks) {
    BertologyException.check(!masks.isEmpty(), "a sweep needs at least one head mask");
    masks.forEach(model()::checkShape);
    String key = file.isPresent() ? Fingerprint.of(masks) : "";
    Map<Integer, double[][]> found = new HashMap<>();
    List<Integer> missing = new ArrayList<>();
    for (int i = 0; i < batches.size(); i++) {
      int batch = i;
      Optional<double[][]> kept = file.flatMap(saved -> saved.get(key, batch));
      kept.ifPresentOrElse(values -> found.put(batch, values), () -> missing.add(batch));
    }
    if (!missing.isEmpty()) {
      Iterator<Integer> next = missing.iterator();
      RunOptions options =
          RunOptions.capturing(scorer.captures().toArray(new Capture[0])).headMasks(masks);
      models.run(
          progress.apply(missing.stream().map(batches::get).toList()),
          options,
          run -> {
            int batch = next.next();
            double[][] values = read(run);
            file.ifPresent(kept -> kept.add(key, batch, values));
            found.put(batch, values);
          });
    }
    double[] scores = new double[masks.size()];
    for (int m = 0; m < scores.length; m++) {
      int mask = m;
      scores[m] =
          scorer.score(
              IntStream.range(0, batches.size()).mapToObj(b -> found.get(b)[mask]).toList());
    }
    return scores;
  }

  private double[][] read(Activations run) {
    double[][] values = new double[run.masks()][];
    Arrays.setAll(values, m -> scorer.read(run.ofMask(m)));
    return values;
  }
}
