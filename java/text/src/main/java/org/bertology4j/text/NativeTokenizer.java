package org.bertology4j.text;

import ai.djl.huggingface.tokenizers.jni.CharSpan;
import ai.djl.huggingface.tokenizers.jni.TokenizersLibrary;
import java.lang.ref.Cleaner;
import java.util.Arrays;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.function.Function;
import java.util.function.LongFunction;
import org.bertology4j.BertologyException;

/** A native tokenizer: many threads may use it at once; closing waits for them. */
final class NativeTokenizer implements AutoCloseable {
  private static final Cleaner CLEANER = Cleaner.create();
  private static final char REPLACEMENT = '\ufffd';

  private final TokenizersLibrary library = NativeLibrary.get();
  private final ReadWriteLock lock = new ReentrantReadWriteLock();
  private final String where;
  private final long address;
  private final Cleaner.Cleanable cleanable;
  private boolean closed;

  /**
   * @param json a tokenizer.json
   * @param where what to call it in messages
   */
  NativeTokenizer(String json, String where) {
    this.where = where;
    try {
      address = library.createTokenizerFromString(json);
    } catch (RuntimeException e) {
      throw new BertologyException(
          BertologyException.Kind.INVALID_ARGUMENT,
          where + " is not a tokenizer: " + e.getMessage(),
          e);
    }
    cleanable = CLEANER.register(this, deletion(library, address));
  }

  // Static, so that it does not hold the object that it waits for.
  private static Runnable deletion(TokenizersLibrary library, long address) {
    return () -> library.deleteTokenizer(address);
  }

  /** An encoded text: what the native side knows of each token. */
  static final class Tokens {
    private final TokenizersLibrary library;
    private final long encoding;

    private Tokens(TokenizersLibrary library, long encoding) {
      this.library = library;
      this.encoding = encoding;
    }

    int[] ids() {
      return toInts(library.getTokenIds(encoding));
    }

    int[] typeIds() {
      return toInts(library.getTypeIds(encoding));
    }

    /** The number of the word in its text; -1 for tokens that are not of a text. */
    int[] wordIds() {
      return toInts(library.getWordIds(encoding));
    }

    /** 0 for the first text, 1 for the second, -1 for neither. */
    int[] textIds() {
      return toInts(library.getSequenceIds(encoding));
    }

    /** From where to where in its text, in code points; null for tokens that are not of a text. */
    CharSpan[] spans() {
      return library.getTokenCharSpans(encoding);
    }

    boolean truncated() {
      return library.getOverflowCount(encoding) > 0;
    }

    private static int[] toInts(long[] values) {
      return Arrays.stream(values).mapToInt(Math::toIntExact).toArray();
    }
  }

  /** Encodes a text, or two, with special tokens, and reads what is wanted of the result. */
  <T> T encode(TextPair text, Function<Tokens, T> read) {
    String first = wellFormed(text.first());
    return call(
        handle -> {
          long encoding =
              text.second().isPresent()
                  ? library.encodeDual(handle, first, wellFormed(text.second().get()), true)
                  : library.encode(handle, first, true);
          try {
            return read.apply(new Tokens(library, encoding));
          } finally {
            library.deleteEncoding(encoding);
          }
        });
  }

  /** The ids of a text without special tokens. */
  int[] ids(String text) {
    return call(
        handle -> {
          long encoding = library.encode(handle, wellFormed(text), false);
          try {
            return new Tokens(library, encoding).ids();
          } finally {
            library.deleteEncoding(encoding);
          }
        });
  }

  /** The text of ids. */
  String decode(int[] ids, boolean skipSpecialTokens) {
    long[] longs = Arrays.stream(ids).asLongStream().toArray();
    return call(handle -> library.decode(handle, longs, skipSpecialTokens));
  }

  private <T> T call(LongFunction<T> function) {
    lock.readLock().lock();
    try {
      if (closed) {
        throw new BertologyException(
            BertologyException.Kind.CLOSED, "the tokenizer of " + where + " is closed");
      }
      return function.apply(address);
    } catch (BertologyException e) {
      throw e;
    } catch (RuntimeException e) {
      throw new BertologyException(
          BertologyException.Kind.INTERNAL, where + ": the tokenizer failed: " + e.getMessage(), e);
    } finally {
      lock.readLock().unlock();
    }
  }

  /**
   * Half a surrogate pair is no character: the native side would take the whole text for something
   * else.
   */
  static String wellFormed(String text) {
    StringBuilder repaired = null;
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (!Character.isSurrogate(c)) {
        continue;
      }
      if (Character.isHighSurrogate(c)
          && i + 1 < text.length()
          && Character.isLowSurrogate(text.charAt(i + 1))) {
        i++;
        continue;
      }
      if (repaired == null) {
        repaired = new StringBuilder(text);
      }
      repaired.setCharAt(i, REPLACEMENT);
    }
    return repaired == null ? text : repaired.toString();
  }

  @Override
  public void close() {
    lock.writeLock().lock();
    try {
      closed = true;
      cleanable.clean();
    } finally {
      lock.writeLock().unlock();
    }
  }
}
