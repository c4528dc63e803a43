package org.bertology4j.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class DatasetTest {
  private static final Labels MOODS = Labels.classes("sad", "happy");
  private static final List<TextPair> TEXTS =
      List.of(TextPair.of("a"), TextPair.of("b", "c"), TextPair.of("d"));

  @Test
  void classesHaveNames() {
    Dataset dataset = Dataset.ofClasses("moods", TEXTS, MOODS, 1, 0, 1);
    assertEquals(3, dataset.size());
    assertEquals(new Example(TextPair.of("b", "c"), Optional.of("sad")), dataset.example(1));
    assertEquals(3, dataset.examples().size());
    assertEquals(dataset.example(2), dataset.examples().get(2));
    assertEquals("moods, 3 examples, labels: classes [sad, happy]", dataset.toString());
    Expect.invalid(() -> dataset.targetOf(0), "moods", "classes [sad, happy]", "REGRESSION");
    Expect.invalid(() -> dataset.classOf(3), "moods has no example 3", "0 to 2");
    Expect.invalid(() -> dataset.text(-1), "no example -1");
  }

  @Test
  void targetsAreNumbers() {
    Dataset dataset = Dataset.ofTargets("scores", TEXTS, 1, 2.5, -3);
    assertEquals(2.5, dataset.targetOf(1));
    assertEquals(Optional.of("2.5"), dataset.example(1).label());
    assertEquals(1, dataset.labels().count());
    Expect.invalid(dataset::classes, "regression");
    Expect.invalid(() -> Dataset.ofTargets("scores", TEXTS, 1, 2), "2 labels for 3 texts");
    Expect.invalid(() -> Dataset.ofTargets("scores", TEXTS, 1, Double.NaN, 2), "example 1", "NaN");
  }

  @Test
  void partsKeepOrderAndLabels() {
    Dataset dataset = Dataset.ofClasses("moods", TEXTS, MOODS, 1, 0, 1);
    Dataset first = dataset.first(2);
    assertEquals(TEXTS.subList(0, 2), first.texts());
    assertArrayEquals(new int[] {1, 0}, first.classes());
    assertSame(dataset, dataset.first(3));
    assertSame(dataset, dataset.first(300));
    Dataset odd = dataset.select(i -> i != 1).named("odd");
    assertArrayEquals(new int[] {1, 1}, odd.classes());
    assertEquals("odd", odd.name());
    assertEquals(-3, Dataset.ofTargets("n", TEXTS, 1, 2, -3).select(i -> i == 2).targetOf(0));
    assertEquals(1, Dataset.of("n", TEXTS).first(1).size());
    Expect.invalid(() -> dataset.first(0), "first 0");
    Expect.invalid(() -> dataset.select(i -> false), "moods has no examples");
  }

  @Test
  void classesCanTakeTheOrderOfAModel() {
    Dataset dataset = Dataset.ofClasses("moods", TEXTS, MOODS, 1, 0, 1);
    Labels model = Labels.classes("HAPPY", "CALM", "SAD");
    Dataset moved = dataset.withClassesOf(model);
    assertEquals(model, moved.labels());
    assertArrayEquals(new int[] {0, 2, 0}, moved.classes());
    Expect.invalid(
        () -> dataset.withClassesOf(Labels.classes("happy", "calm")), "moods", "\"sad\"", "calm");
    Expect.invalid(
        () -> dataset.withClassesOf(Labels.classes("LABEL_0", "LABEL_1")), "\"sad\"", "LABEL_0");
  }

  @Test
  void isNotChangedFromOutside() {
    List<TextPair> texts = new ArrayList<>(TEXTS);
    int[] classes = {1, 0, 1};
    Dataset dataset = Dataset.ofClasses("moods", texts, MOODS, classes);
    texts.clear();
    classes[0] = 0;
    dataset.classes()[1] = 1;
    assertEquals(TEXTS, dataset.texts());
    assertArrayEquals(new int[] {1, 0, 1}, dataset.classes());
    assertThrows(UnsupportedOperationException.class, () -> dataset.texts().clear());
    assertThrows(UnsupportedOperationException.class, () -> dataset.examples().clear());
  }

  @Test
  void saysWhatIsWrong() {
    Expect.invalid(() -> Dataset.of("none", List.of()), "none has no examples");
    Expect.invalid(() -> Dataset.ofClasses("m", TEXTS, MOODS, 0, 1, 2), "example 2", "of class 2");
    Expect.invalid(() -> Dataset.ofClasses("m", TEXTS, MOODS, 0), "1 labels for 3 texts");
    Expect.invalid(
        () -> Dataset.ofClasses("m", TEXTS, Labels.regression(), 0, 1, 1), "are regression");
    Expect.invalid(() -> Labels.classes("one"), "[one]", "two or more");
    Expect.invalid(() -> Labels.classes("one", "one"), "twice");
    assertThrows(NullPointerException.class, () -> TextPair.of(null));
    assertTrue(TextPair.of(" ", "\t").isBlank());
  }
}
