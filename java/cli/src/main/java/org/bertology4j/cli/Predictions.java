package org.bertology4j.cli;

import java.util.List;
import java.util.Map;
import org.bertology4j.Activations;
import org.bertology4j.Capture;

/** What counts of the runs over a data set, and the scores that it gives. */
interface Predictions {
  /** What a run must have captured. */
  List<Capture> captures();

  /** What counts of a run. */
  double[] read(Activations run);

  /** The scores by name, from what was read of all runs, in the order of the data. */
  Map<String, Double> scores(List<double[]> runs);
}
