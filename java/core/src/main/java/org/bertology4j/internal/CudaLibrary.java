package org.bertology4j.internal;

import java.io.IOException;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
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

  /** JavaCPP's preset of cuBLAS, which is no dependency: who has it on the class path has it. */
  private static final String CUBLAS_PRESET = "org.bytedeco.cuda.global.cublas";

  private static final Logger LOG = System.getLogger(CudaLibrary.class.getName());

  private static boolean found;
  private static boolean lookedForPreset;

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

  /**
   * Loads the cuBLAS of JavaCPP's preset, once, if that is on the class path and the environment
   * names no other: our library, which looks for cuBLAS when a device is first opened, finds by its
   * name what is loaded already. Without it, or if that fails, ours looks where the system does.
   */
  public static synchronized void loadPresetCublas() {
    if (lookedForPreset || !System.getenv().getOrDefault("BERTOLOGY_CUBLAS", "").isEmpty()) {
      return;
    }
    lookedForPreset = true;
    try {
      Loader.load(Class.forName(CUBLAS_PRESET, false, CudaLibrary.class.getClassLoader()));
      LOG.log(Level.DEBUG, "{0} was loaded", CUBLAS_PRESET);
    } catch (ClassNotFoundException e) {
      LOG.log(Level.DEBUG, "{0} is not on the class path", CUBLAS_PRESET);
    } catch (LinkageError | RuntimeException e) {
      LOG.log(Level.WARNING, "{0} could not be loaded: {1}", CUBLAS_PRESET, e);
    }
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
