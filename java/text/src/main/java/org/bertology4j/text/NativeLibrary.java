package org.bertology4j.text;

import ai.djl.huggingface.tokenizers.jni.TokenizersLibrary;
import java.io.File;
import java.io.IOException;
import java.util.List;
import org.bertology4j.BertologyException;
import org.bytedeco.javacpp.Loader;

/**
 * Loads Hugging Face's tokenizers, which DJL has compiled for the JVM, once.
 *
 * <p>DJL's own loader is passed by: it looks for CUDA, may download a library made for it, and
 * keeps a cache of its own. The library is taken from DJL's jar as all other native libraries are
 * from theirs: JavaCPP copies it into its cache, under a lock, and finds it there the next time.
 */
final class NativeLibrary {
  private static final String FOLDER = "/native/lib/%s/cpu/%s";

  private NativeLibrary() {}

  /** Loads when this class is first used; what went wrong then is said each time. */
  private static final class Loaded {
    static final BertologyException FAILURE = load();

    private static BertologyException load() {
      try {
        for (String library : libraries()) {
          System.load(library);
        }
        return null;
      } catch (IOException | LinkageError e) {
        return new BertologyException(
            BertologyException.Kind.UNSUPPORTED,
            "the native tokenizers cannot be loaded on " + Loader.getPlatform() + ": " + e,
            e);
      } catch (BertologyException e) {
        return e;
      }
    }
  }

  /** The functions of the library. */
  static TokenizersLibrary get() {
    if (Loaded.FAILURE != null) {
      throw new BertologyException(
          Loaded.FAILURE.kind(), Loaded.FAILURE.getMessage(), Loaded.FAILURE);
    }
    return TokenizersLibrary.LIB;
  }

  private static List<String> libraries() throws IOException {
    String platform = Loader.getPlatform();
    return switch (platform) {
      case "linux-x86_64" -> List.of(extract("linux-x86_64", "libtokenizers.so"));
      case "linux-arm64" -> List.of(extract("linux-aarch64", "libtokenizers.so"));
      case "macosx-arm64" -> List.of(extract("osx-aarch64", "libtokenizers.dylib"));
      case "windows-x86_64" ->
          List.of(
              extract("win-x86_64", "libwinpthread-1.dll"),
              extract("win-x86_64", "libgcc_s_seh-1.dll"),
              extract("win-x86_64", "libstdc++-6.dll"),
              extract("win-x86_64", "tokenizers.dll"));
      default ->
          throw new BertologyException(
              BertologyException.Kind.UNSUPPORTED,
              "there are no native tokenizers for "
                  + platform
                  + ", only for linux-x86_64, linux-arm64, macosx-arm64 and windows-x86_64");
    };
  }

  private static String extract(String platform, String file) throws IOException {
    String resource = String.format(FOLDER, platform, file);
    File copy = Loader.cacheResource(TokenizersLibrary.class, resource);
    if (copy == null) {
      throw new IOException("the jar of the tokenizers has no " + resource);
    }
    return copy.getAbsolutePath();
  }
}
