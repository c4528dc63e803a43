package org.bertology4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.StringWriter;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The README's claims that can be checked without running for minutes. */
class ReadmeTest {
  private static final Path ROOT = Path.of("..", "..");

  @Test
  void javaExamplesCompile(@TempDir Path classes) throws IOException {
    Matcher example = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL).matcher(readme());
    int examples = 0;
    JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
    while (example.find()) {
      String code = example.group(1);
      SimpleJavaFileObject source =
          new SimpleJavaFileObject(
              URI.create("string:///Example.java"), JavaFileObject.Kind.SOURCE) {
            @Override
            public CharSequence getCharContent(boolean ignoreEncodingErrors) {
              return code;
            }
          };
      StringWriter messages = new StringWriter();
      List<String> options =
          List.of("-d", classes.toString(), "-cp", System.getProperty("java.class.path"));
      boolean compiled =
          compiler.getTask(messages, null, null, options, null, List.of(source)).call();
      assertTrue(compiled, messages::toString);
      examples++;
    }
    assertTrue(examples > 0, "the README has no Java example");
  }

  @Test
  void filesNamedInTheReadmeExist() throws IOException {
    Matcher path = Pattern.compile("java/core/src/[\\w/.]+").matcher(readme());
    while (path.find()) {
      assertTrue(Files.exists(ROOT.resolve(path.group())), path.group());
    }
  }

  @Test
  void continuousIntegrationRunsTheReadmesTestCommand() throws IOException {
    List<String> commands;
    try (Stream<String> lines = readme().lines()) {
      commands = lines.filter(line -> line.startsWith("mvn -B verify")).toList();
    }
    assertFalse(commands.isEmpty());
    List<String> ci;
    try (Stream<String> lines = Files.lines(ROOT.resolve(".ci/run"))) {
      ci = lines.filter(line -> line.startsWith("mvn")).toList();
    }
    assertEquals(List.of(commands.get(0)), ci);
  }

  private static String readme() throws IOException {
    return Files.readString(ROOT.resolve("README.md"));
  }
}
