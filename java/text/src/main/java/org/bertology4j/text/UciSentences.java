package org.bertology4j.text;

import java.io.InputStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.stream.IntStream;
import org.bertology4j.BertologyException;

/**
 * 3000 English sentences out of reviews, each negative or positive: the UCI data set "Sentiment
 * Labelled Sentences" (D. Kotzias, M. Denil, N. de Freitas, P. Smyth: From Group to Individual
 * Labels Using Deep Features, KDD 2015; CC BY 4.0).
 *
 * <p>Every fifth sentence of each source, starting with its first, is for testing.
 */
public final class UciSentences {
  /** The names of the classes. */
  public static final Labels LABELS = Labels.classes("negative", "positive");

  private static final int TEST_EVERY = 5;

  /** Where sentences are from; 500 negative and 500 positive ones each. */
  public enum Source {
    /** Products. */
    AMAZON,
    /** Films. */
    IMDB,
    /** Restaurants. */
    YELP
  }

  private final Dataset train;
  private final Dataset test;
  private final List<Source> trainSources;
  private final List<Source> testSources;

  private UciSentences(List<Source> sources) {
    List<TextPair> texts = new ArrayList<>();
    List<Integer> classes = new ArrayList<>();
    List<Source> sourceOf = new ArrayList<>();
    List<Boolean> forTest = new ArrayList<>();
    for (Source source : sources) {
      Dataset read = read(source);
      for (int i = 0; i < read.size(); i++) {
        texts.add(read.text(i));
        classes.add(read.classOf(i));
        sourceOf.add(source);
        forTest.add(i % TEST_EVERY == 0);
      }
    }
    Dataset all =
        Dataset.ofClasses(
            "uci", texts, LABELS, classes.stream().mapToInt(Integer::intValue).toArray());
    train = all.select(i -> !forTest.get(i)).named("uci train");
    test = all.select(forTest::get).named("uci test");
    trainSources = chosen(sourceOf, forTest, false);
    testSources = chosen(sourceOf, forTest, true);
  }

  private static List<Source> chosen(List<Source> sources, List<Boolean> forTest, boolean test) {
    return IntStream.range(0, sources.size())
        .filter(i -> forTest.get(i) == test)
        .mapToObj(sources::get)
        .toList();
  }

  private static Dataset read(Source source) {
    String file = "uci/" + source.name().toLowerCase(Locale.ROOT) + ".tsv";
    InputStream in =
        Objects.requireNonNull(UciSentences.class.getResourceAsStream(file), "resource " + file);
    return DatasetReader.builder()
        .text("sentence")
        .label("label")
        .labels(LABELS)
        .build()
        .read(in, file, DatasetReader.Format.TSV);
  }

  /** All sentences. */
  public static UciSentences load() {
    return load(Source.values());
  }

  /** The sentences of these sources, in this order. */
  public static UciSentences load(Source... sources) {
    BertologyException.check(
        sources.length > 0 && Arrays.stream(sources).distinct().count() == sources.length,
        "sources are %s, expected different ones, and one or more",
        Arrays.toString(sources));
    return new UciSentences(List.of(sources));
  }

  /** The sentences for training, 800 of each source, source after source. */
  public Dataset train() {
    return train;
  }

  /** The sentences for testing, 200 of each source, source after source. */
  public Dataset test() {
    return test;
  }

  /** Where each sentence of {@link #train()} is from. */
  public List<Source> trainSources() {
    return trainSources;
  }

  /** Where each sentence of {@link #test()} is from. */
  public List<Source> testSources() {
    return testSources;
  }
}
