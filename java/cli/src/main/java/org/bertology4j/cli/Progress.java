package org.bertology4j.cli;

import java.util.Iterator;
import java.util.List;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import me.tongfei.progressbar.ProgressBarStyle;

/** Progress bars on a terminal; nothing elsewhere. */
final class Progress {
  private static final boolean TERMINAL = Boolean.getBoolean("bertology.terminal");

  private Progress() {}

  /** The items, each of which counts as one step once it has been asked for. */
  static <T> Iterable<T> over(String task, List<T> items) {
    if (!TERMINAL) {
      return items;
    }
    return () -> new Steps<>(task, items);
  }

  private static final class Steps<T> implements Iterator<T> {
    private final Iterator<T> items;
    private final ProgressBar bar;

    Steps(String task, List<T> list) {
      items = list.iterator();
      bar =
          new ProgressBarBuilder()
              .setTaskName(task)
              .setInitialMax(list.size())
              .setStyle(ProgressBarStyle.ASCII)
              .setUpdateIntervalMillis(200)
              .clearDisplayOnFinish()
              .build();
    }

    @Override
    public boolean hasNext() {
      boolean more = items.hasNext();
      if (!more) {
        bar.close();
      }
      return more;
    }

    @Override
    public T next() {
      T item = items.next();
      bar.step();
      return item;
    }
  }
}
