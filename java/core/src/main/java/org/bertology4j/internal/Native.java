package org.bertology4j.internal;

import org.bertology4j.BertologyException;
import org.bertology4j.BertologyException.Kind;
import org.bertology4j.internal.binding.bertology;

/**
 * Status codes of the native library become exceptions, and the library is loaded with a helpful
 * message.
 */
public final class Native {
  private Native() {}

  private static volatile boolean loaded;

  /**
   * Unpacks and loads the native libraries, once. To be called before the binding is first touched.
   */
  public static void load() {
    if (loaded) {
      return;
    }
    try {
      bertology.bertology_version(); // the binding's static initialiser loads them
      loaded = true;
    } catch (UnsatisfiedLinkError | ExceptionInInitializerError | NoClassDefFoundError e) {
      throw new BertologyException(Kind.UNSUPPORTED, explain(e), e);
    }
  }

  /** The version of the native library, which is that of the project. */
  public static String version() {
    load();
    return bertology.bertology_version().getString();
  }

  private static String explain(Throwable error) {
    String platform = System.getProperty("os.name") + " " + System.getProperty("os.arch");
    String cause = error.getCause() != null ? error.getCause().getMessage() : error.getMessage();
    String advice =
        "it needs the jar bertology4j-core with the classifier linux-x86_64 and org.bytedeco:dnnl on"
            + " the class path, a Linux with glibc (musl is not supported), and a cache folder that"
            + " can hold executable files (-Dorg.bytedeco.javacpp.cachedir=...)";
    return "the native library could not be loaded on " + platform + ": " + cause + "; " + advice;
  }

  /** Throws what the native library says went wrong, unless the status is fine. */
  public static void check(int status) {
    if (status == bertology.BERTOLOGY_OK) {
      return;
    }
    String text = bertology.bertology_last_error().getString();
    throw new BertologyException(
        switch (status) {
          case bertology.BERTOLOGY_INVALID_ARGUMENT -> Kind.INVALID_ARGUMENT;
          case bertology.BERTOLOGY_UNSUPPORTED -> Kind.UNSUPPORTED;
          case bertology.BERTOLOGY_OUT_OF_MEMORY -> Kind.OUT_OF_MEMORY;
          case bertology.BERTOLOGY_DEVICE_ERROR -> Kind.DEVICE;
          default -> Kind.INTERNAL;
        },
        text);
  }
}
