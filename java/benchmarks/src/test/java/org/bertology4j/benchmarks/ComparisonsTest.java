package org.bertology4j.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import org.junit.jupiter.api.Test;

/** The tables of comparisons and targets. */
class ComparisonsTest {
  private static List<String> rows() {
    List<String> rows = new ArrayList<>();
    new Comparisons(false).all().forEach(comparison -> rows.addAll(comparison.rows()));
    rows.add(Ranks.ROW);
    return rows;
  }

  @Test
  void everyTargetHasItsRow() {
    for (String row : Target.all().keySet()) {
      assertTrue(rows().contains(row), row);
    }
  }

  @Test
  void rowsHaveDifferentNames() {
    assertEquals(rows().size(), new HashSet<>(rows()).size());
  }

  @Test
  void aTargetIsReachedAtItsBound() {
    assertTrue(new Target(true, 2).isReached(2));
    assertTrue(new Target(false, 2).isReached(2));
    assertTrue(!new Target(true, 2).isReached(1.99));
    assertTrue(!new Target(false, 2).isReached(2.01));
    assertEquals("≥ 2.00", new Target(true, 2).toString());
  }

  @Test
  void spreads() {
    Spread spread = Spread.of(List.of(3.0, 1.0, 2.0));
    assertEquals("2.00 (1.00–3.00)", spread.toString());
    assertEquals(0.5, spread.noise(), 1e-12);
  }
}
