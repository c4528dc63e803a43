package org.bertology4j.internal;

import java.io.IOException;
import java.net.URL;
import java.util.Optional;
import org.bertology4j.BertologyException;
import org.bertology4j.BertologyException.Kind;
import org.bertology4j.internal.binding.bertology;
import org.bytedeco.javacpp.Loader;

/**
 * The part of the native library that CUDA devices need: a library of its own, in a jar of its own,
 * which is unpacked only when such a device is asked for.
 */
public final class CudaLibrary {
  /** System property: where libbertology_cuda.so is, instead of in a jar. */
  public static final String PROPERTY = "org.bertology4j.cuda.library";

  private static final String FILE = "libbertology_cuda.so";

  private static boolean found;

  private CudaLibrary() {}

  /**
   * Unpacks it, once, and tells the core where it is.
   *
   * @return what is missing, if something is
   */
  public static synchronized Optional<String> find() {
    if (found) {
      return Optional.empty();
    }
    Native.load();
    String path = System.getProperty(PROPERTY, "");
    if (path.isEmpty()) {
      String platform = Loader.getPlatform() + "-gpu";
      URL packed = bertology.class.getResource(platform + "/" + FILE);
      if (packed == null) {
        return Optional.of(
            "the part of the library for CUDA is not on the class path: add the jar of"
                + " bertology4j-core with the classifier "
                + platform
                + ", or say where "
                + FILE
                + " is by -D"
                + PROPERTY
                + "=PATH");
      }
      path = unpack(packed);
    }
    Native.check(bertology.bertology_set_cuda_library(path));
    found = true;
    return Optional.empty();
  }

  private static String unpack(URL packed) {
    try {
      return Loader.cacheResource(packed).getPath();
    } catch (IOException e) {
      throw new BertologyException(
          Kind.IO,
          packed
              + " could not be unpacked (-Dorg.bytedeco.javacpp.cachedir=...): "
              + e.getMessage(),
          e);
    }
  }
}
