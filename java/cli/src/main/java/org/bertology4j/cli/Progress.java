package org.bertology4j.cli;

import java.util.Iterator;
import java.util.List;
import java.util.Optional;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import me.tongfei.progressbar.ProgressBarConsumer;
import me.tongfei.progressbar.ProgressBarStyle;
import org.bertology4j.BertologyException;

/**
 * Items to be worked through once, in order: with a progress bar if standard error is a terminal,
 * and with an end if the thread is interrupted.
 */
final class Progress<T> implements Iterable<T>, Iterator<T>, AutoCloseable {
  /** Width of the terminal; 0 if there is none. The launcher knows. */
  private static final int COLUMNS = Integer.getInteger("bertology.columns", 0);

  private static final int UPDATE_MILLISECONDS = 200;

  private final Iterator<T> items;
  private final Optional<ProgressBar> bar;
  private long begun;

  private Progress(String task, List<T> list) {
    items = list.iterator();
    bar = COLUMNS > 0 && list.size() > 1 ? Optional.of(bar(task, list.size())) : Optional.empty();
  }

  /** The items; each counts as done when the next one is asked for. */
  static <T> Progress<T> over(String task, List<T> items) {
    return new Progress<>(task, items);
  }

  private static ProgressBar bar(String task, int size) {
    return new ProgressBarBuilder()
        .setTaskName(task)
        .setInitialMax(size)
        .setStyle(ProgressBarStyle.ASCII)
        .setUpdateIntervalMillis(UPDATE_MILLISECONDS)
        .setConsumer(new Line())
        .clearDisplayOnFinish()
        .build();
  }

  @Override
  public Iterator<T> iterator() {
    return this;
  }

  @Override
  public boolean hasNext() {
    bar.ifPresent(shown -> shown.stepTo(begun));
    boolean more = items.hasNext();
    if (!more) {
      close();
    }
    return more;
  }

  /**
   * The next item.
   *
   * @throws BertologyException of kind INTERRUPTED if the thread is interrupted
   */
  @Override
  public T next() {
    if (Thread.currentThread().isInterrupted()) {
      throw new BertologyException(BertologyException.Kind.INTERRUPTED, "interrupted");
    }
    begun++;
    return items.next();
  }

  /** Wipes the bar away. */
  @Override
  public void close() {
    boolean interrupted = Thread.interrupted(); // the bar would not wait, and swallow it
    bar.ifPresent(ProgressBar::close);
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** The terminal's last line, on standard error. */
  private static final class Line implements ProgressBarConsumer {
    @Override
    public int getMaxRenderedLength() {
      return COLUMNS - 1; // some terminals begin a new line behind the last column
    }

    @Override
    public void accept(String text) {
      System.err.print("\r" + text);
      System.err.flush();
    }

    @Override
    public void clear() {
      accept(" ".repeat(getMaxRenderedLength()) + "\r");
    }

    @Override
    public void close() {
      // The terminal stays.
    }
  }
}
