package org.bertology4j;

/**
 * What went wrong, of which kind, with a text that says what was found, what was expected and
 * where.
 */
public class BertologyException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /** What kind of thing went wrong. */
  public enum Kind {
    /** An argument, or the content of a file, is not what it must be. */
    INVALID_ARGUMENT,
    /** Understood, but not possible with this model, device or build. */
    UNSUPPORTED,
    /** Memory ran out; nothing was changed. */
    OUT_OF_MEMORY,
    /** A device is missing or failed. */
    DEVICE,
    /** A file could not be read or written. */
    IO,
    /** A closed object was used. */
    CLOSED,
    /** The thread was interrupted; what was finished is kept. */
    INTERRUPTED,
    /** A fault of this library. */
    INTERNAL
  }

  private final Kind kind;

  /** An exception of this kind. */
  public BertologyException(Kind kind, String message) {
    super(message);
    this.kind = kind;
  }

  /** An exception of this kind, with what caused it. */
  public BertologyException(Kind kind, String message, Throwable cause) {
    super(message, cause);
    this.kind = kind;
  }

  /** The kind of thing that went wrong. */
  public Kind kind() {
    return kind;
  }

  /** An {@link Kind#INVALID_ARGUMENT}, its text formatted as by {@link String#format}. */
  public static BertologyException invalid(String format, Object... arguments) {
    return new BertologyException(Kind.INVALID_ARGUMENT, String.format(format, arguments));
  }

  /** An {@link Kind#IO}, its text formatted as by {@link String#format}. */
  public static BertologyException io(Throwable cause, String format, Object... arguments) {
    return new BertologyException(Kind.IO, String.format(format, arguments), cause);
  }

  /** Throws an {@link Kind#INVALID_ARGUMENT} unless {@code ok}. */
  public static void check(boolean ok, String format, Object... arguments) {
    if (!ok) {
      throw invalid(format, arguments);
    }
  }
}
