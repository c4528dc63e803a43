package org.bertology4j.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.Collections;
import java.util.HexFormat;
import java.util.List;
import java.util.stream.IntStream;
import org.bertology4j.text.UciSentences.Source;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class UciSentencesTest {
  @Test
  void everyFifthIsForTesting() {
    UciSentences sentences = UciSentences.load();
    assertEquals(2400, sentences.train().size());
    assertEquals(600, sentences.test().size());
    assertEquals(UciSentences.LABELS, sentences.train().labels());
    assertEquals(
        "So there is no way for me to plug it in here in the US unless I go by a converter.",
        sentences.test().text(0).first());
    assertEquals("Good case, Excellent value.", sentences.train().text(0).first());
    assertEquals("negative", sentences.test().example(0).label().orElseThrow());
    assertEquals("positive", sentences.train().example(0).label().orElseThrow());
    for (Source source : Source.values()) {
      assertEquals(800, Collections.frequency(sentences.trainSources(), source));
      assertEquals(200, Collections.frequency(sentences.testSources(), source));
    }
    assertEquals(Source.AMAZON, sentences.testSources().get(0));
    assertEquals(Source.YELP, sentences.testSources().get(599));
  }

  @ParameterizedTest
  @EnumSource
  void aSourceIsBalanced(Source source) {
    UciSentences sentences = UciSentences.load(source);
    int[] classes =
        IntStream.concat(
                Arrays.stream(sentences.train().classes()),
                Arrays.stream(sentences.test().classes()))
            .toArray();
    assertEquals(1000, classes.length);
    assertEquals(500, Arrays.stream(classes).sum());
    assertEquals(List.of(source), sentences.trainSources().stream().distinct().toList());
  }

  @Test
  void isWhatItWas() throws Exception {
    MessageDigest digest = MessageDigest.getInstance("SHA-256");
    UciSentences sentences = UciSentences.load();
    for (Dataset part : List.of(sentences.train(), sentences.test())) {
      for (int i = 0; i < part.size(); i++) {
        digest.update(
            (part.text(i).first() + "\t" + part.classOf(i) + "\n")
                .getBytes(StandardCharsets.UTF_8));
      }
    }
    assertEquals(
        "d4c5fa4bd35340934fe45842dd978d9b6bda89facf2f4f293542058ac4b36ce0",
        HexFormat.of().formatHex(digest.digest()));
  }

  @Test
  void sourcesMustDiffer() {
    Expect.invalid(() -> UciSentences.load(Source.IMDB, Source.IMDB), "[IMDB, IMDB]");
    Expect.invalid(() -> UciSentences.load(new Source[0]), "[]");
    assertTrue(
        UciSentences.load(Source.YELP, Source.IMDB)
            .train()
            .text(0)
            .first()
            .startsWith("Crust is not"));
  }
}
