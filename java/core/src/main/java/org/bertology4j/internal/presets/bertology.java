package org.bertology4j.internal.presets;

import org.bytedeco.javacpp.annotation.NoException;
import org.bytedeco.javacpp.annotation.Platform;
import org.bytedeco.javacpp.annotation.Properties;
import org.bytedeco.javacpp.tools.Info;
import org.bytedeco.javacpp.tools.InfoMap;
import org.bytedeco.javacpp.tools.InfoMapper;

/**
 * How JavaCPP maps {@code bertology.h}: from it the class {@code
 * org.bertology4j.internal.binding.bertology} is generated.
 *
 * <p>oneDNN and its OpenMP come out of their own jar: they are loaded before our library, not
 * packed with it.
 */
@Properties(
    value = {
      @Platform(
          include = "bertology.h",
          link = "bertology",
          preload = {"gomp@.1", "dnnl@.3"},
          preloadresource = "/org/bytedeco/dnnl/")
    },
    target = "org.bertology4j.internal.binding",
    global = "org.bertology4j.internal.binding.bertology")
@NoException
public class bertology implements InfoMapper {
  @Override
  public void map(InfoMap infoMap) {
    infoMap
        .put(new Info("BERTOLOGY_API").cppTypes().annotations())
        .put(new Info("BERTOLOGY_H").skip());
  }
}
