package org.bertology4j.text;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.OptionalInt;
import java.util.stream.IntStream;
import org.bertology4j.Batch;
import org.bertology4j.BertologyException;

/**
 * Texts for a language model: what it is to predict is the texts themselves. Immutable.
 *
 * <p>Each is cut to the most tokens that the model can take. None is padded.
 */
public final class Documents {
  private final String name;
  private final List<Document> documents;

  /**
   * A text.
   *
   * @param context how many of the tokens at its start do not count, because another document has
   *     predicted them
   * @param cut whether it had more tokens
   */
  private record Document(int[] ids, int context, boolean cut) {
    boolean isPredicted() {
      return ids.length > Math.max(1, context);
    }
  }

  private Documents(String name, List<Document> documents) {
    BertologyException.check(!documents.isEmpty(), "%s has no texts", name);
    this.name = name;
    this.documents = List.copyOf(documents);
  }

  /** The lines of a file, each of them a text; blank ones are none. */
  public static Documents ofLines(Path file, Tokenizer tokenizer) {
    List<Document> documents = new ArrayList<>();
    int number = 0;
    for (String line : Utf8Reader.readAll(file).lines().toList()) {
      number++;
      if (!line.isBlank()) {
        documents.add(of(tokenizer.ids(TextPair.of(line), file + ":" + number)));
      }
    }
    return new Documents(file.toString(), documents);
  }

  /** The texts of a data set, without its labels. */
  public static Documents of(Dataset dataset, Tokenizer tokenizer) {
    return new Documents(
        dataset.name(),
        IntStream.range(0, dataset.size())
            .mapToObj(i -> of(tokenizer.ids(dataset.text(i), dataset.name() + ": example " + i)))
            .toList());
  }

  private static Document of(Tokenizer.Ids found) {
    return new Document(found.ids(), 0, found.cut());
  }

  /**
   * A file as one text, in blocks of so many tokens, each of which begins {@code stride} tokens
   * behind the one before. What two blocks have in common counts in the first of them, so that
   * every token counts once; with a stride as long as the block the first of each has nothing to be
   * predicted from, and does not count.
   */
  public static Documents ofBlocks(Path file, Tokenizer tokenizer, int length, int stride) {
    BertologyException.check(
        length > 1 && length <= tokenizer.maxLength(),
        "blocks of %d tokens, expected 2 to %d",
        length,
        tokenizer.maxLength());
    BertologyException.check(
        stride > 0 && stride <= length, "a stride of %d, expected 1 to %d", stride, length);
    int[] ids = tokenizer.wholeText(Utf8Reader.readAll(file));
    List<Document> documents = new ArrayList<>();
    int counted = 0;
    for (int start = 0; counted < ids.length; start += stride) {
      int end = Math.min(ids.length, start + length);
      Document block = new Document(Arrays.copyOfRange(ids, start, end), counted - start, false);
      // At the end a token may be left over, with nothing that it is predicted from.
      if (documents.isEmpty() || block.isPredicted()) {
        documents.add(block);
      }
      counted = end;
    }
    return new Documents(file.toString(), documents);
  }

  /**
   * Lines of token ids with spaces between them: what Hugging Face's run_prune_gpt.py reads.
   *
   * @param vocabulary how many ids there are
   * @param maxLength the most tokens of a text; what is longer is cut
   */
  public static Documents ofIds(Path file, int vocabulary, int maxLength) {
    return ofIds(file, vocabulary, maxLength, OptionalInt.empty());
  }

  /**
   * The same of a file whose lines were filled up to one length, which run_prune_gpt.py needs.
   *
   * @param padding the id that fills them up, which is left out at both ends of a line
   */
  public static Documents ofIds(Path file, int vocabulary, int maxLength, OptionalInt padding) {
    List<Document> documents = new ArrayList<>();
    int number = 0;
    for (String line : Utf8Reader.readAll(file).lines().toList()) {
      number++;
      String[] words = line.isBlank() ? new String[0] : line.strip().split("\\s+");
      int[] ids = new int[words.length];
      for (int i = 0; i < words.length; i++) {
        boolean number9 = words[i].matches("\\d{1,9}");
        BertologyException.check(
            number9 && Integer.parseInt(words[i]) < vocabulary,
            "%s:%d: \"%s\" is no token id, expected 0 to %d",
            file,
            number,
            words[i],
            vocabulary - 1);
        ids[i] = Integer.parseInt(words[i]);
      }
      ids = padding.isPresent() ? withoutPadding(ids, padding.getAsInt()) : ids;
      if (ids.length > 0) {
        int kept = Math.min(ids.length, maxLength);
        documents.add(new Document(Arrays.copyOf(ids, kept), 0, kept < ids.length));
      }
    }
    return new Documents(file.toString(), documents);
  }

  private static int[] withoutPadding(int[] ids, int padding) {
    int start = 0;
    int end = ids.length;
    while (start < end && ids[start] == padding) {
      start++;
    }
    while (end > start && ids[end - 1] == padding) {
      end--;
    }
    return Arrays.copyOfRange(ids, start, end);
  }

  /** The first so many of them, or all if there are fewer. */
  public Documents first(int count) {
    return new Documents(name, documents.subList(0, Math.min(count, documents.size())));
  }

  /** Those that have something to be predicted: two tokens or more. */
  public Documents predicted() {
    List<Document> some = documents.stream().filter(Document::isPredicted).toList();
    BertologyException.check(!some.isEmpty(), "%s: no text has two tokens", name);
    return new Documents(name, some);
  }

  /** How many they are. */
  public int size() {
    return documents.size();
  }

  /** Tokens of all of them. */
  public long tokens() {
    return documents.stream().mapToLong(document -> document.ids().length).sum();
  }

  /** These, if all of them have something to be predicted; throws otherwise. */
  public Documents allPredicted() {
    for (int i = 0; i < documents.size(); i++) {
      BertologyException.check(
          documents.get(i).isPredicted(),
          "%s: text %d of %d has one token, and nothing to predict",
          name,
          i + 1,
          size());
    }
    return this;
  }

  /** Batches of so many documents, without labels; the last may have fewer. */
  public List<Batch> batches(int most) {
    return batches(most, Integer.MAX_VALUE, false);
  }

  /** Batches of at most so many tokens, without labels; a document that alone has more is one. */
  public List<Batch> batchesOfTokens(int most) {
    return batches(Integer.MAX_VALUE, most, false);
  }

  /** The same for {@link Batch.Loss#CAUSAL_LM}. */
  public List<Batch> labelledBatches(int most) {
    return batches(most, Integer.MAX_VALUE, true);
  }

  /** The same for {@link Batch.Loss#CAUSAL_LM}. */
  public List<Batch> labelledBatchesOfTokens(int most) {
    return batches(Integer.MAX_VALUE, most, true);
  }

  private List<Batch> batches(int mostDocuments, int mostTokens, boolean labelled) {
    BertologyException.check(
        mostDocuments > 0 && mostTokens > 0, "batches need room for a document");
    List<Batch> batches = new ArrayList<>();
    List<Document> open = new ArrayList<>();
    long tokens = 0;
    for (Document document : documents) {
      boolean full = open.size() == mostDocuments || tokens + document.ids().length > mostTokens;
      if (full && !open.isEmpty()) {
        batches.add(batch(open, labelled));
        open.clear();
        tokens = 0;
      }
      open.add(document);
      tokens += document.ids().length;
    }
    batches.add(batch(open, labelled));
    return List.copyOf(batches);
  }

  private static Batch batch(List<Document> documents, boolean labelled) {
    Batch batch = Batch.of(documents.stream().map(Document::ids).toArray(int[][]::new));
    if (!labelled) {
      return batch;
    }
    if (documents.stream().allMatch(document -> document.context() == 0)) {
      return batch.withNextTokens();
    }
    return batch.withNextTokens(
        documents.stream()
            .map(
                document -> {
                  int[] labels = document.ids().clone();
                  Arrays.fill(labels, 0, document.context(), Batch.IGNORED_LABEL);
                  return labels;
                })
            .toArray(int[][]::new));
  }

  /** Such as {@code text.txt: 12 texts of 1200 tokens, 2 of them cut}. */
  @Override
  public String toString() {
    long cut = documents.stream().filter(Document::cut).count();
    return String.format("%s: %d texts of %d tokens", name, size(), tokens())
        + (cut == 0 ? "" : String.format(", %d of them cut", cut));
  }
}
