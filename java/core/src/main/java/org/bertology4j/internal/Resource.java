package org.bertology4j.internal;

import java.lang.ref.Cleaner;
import java.util.concurrent.locks.Lock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.function.Supplier;
import org.bertology4j.BertologyException;
import org.bertology4j.BertologyException.Kind;

/**
 * A native thing that must be freed once: by {@link #close}, which waits for calls in progress, or
 * else when the garbage collector finds it unreachable. With {@code -Dorg.bertology4j.leaks=true}
 * the latter is reported on standard error, with the place where the thing was made.
 */
public final class Resource {
  private static final Cleaner CLEANER = Cleaner.create();
  private static final boolean REPORT_LEAKS = Boolean.getBoolean("org.bertology4j.leaks");

  private final String name;
  private final ReentrantReadWriteLock lock = new ReentrantReadWriteLock();
  private final Cleaner.Cleanable cleanable;
  private final Release release;
  private boolean closed;

  /**
   * @param owner the object that users hold
   * @param name what to call it in messages
   * @param free frees it; must not refer to the owner
   */
  public Resource(Object owner, String name, Runnable free) {
    this.name = name;
    this.release = new Release(name, free);
    this.cleanable = CLEANER.register(owner, release);
  }

  private static final class Release implements Runnable {
    private final String name;
    private final Runnable free;
    private final Throwable made;
    private volatile boolean closing;

    Release(String name, Runnable free) {
      this.name = name;
      this.free = free;
      this.made = REPORT_LEAKS ? new Throwable("made here") : null;
    }

    @Override
    public void run() {
      if (!closing && made != null) {
        System.err.println("bertology4j: a " + name + " was not closed");
        made.printStackTrace();
      }
      free.run();
    }
  }

  /** Calls it while the resource is open: close() waits for it. */
  public <T> T use(Supplier<T> call) {
    return locked(lock.readLock(), call);
  }

  /** Calls it when all other calls have ended, and before others begin. */
  public <T> T useAlone(Supplier<T> call) {
    return locked(lock.writeLock(), call);
  }

  private <T> T locked(Lock held, Supplier<T> call) {
    held.lock();
    try {
      checkOpen();
      return call.get();
    } finally {
      held.unlock();
    }
  }

  private void checkOpen() {
    if (closed) {
      throw new BertologyException(Kind.CLOSED, "the " + name + " is closed");
    }
  }

  /** Waits for calls in progress and frees it. A second time does nothing. */
  public void close() {
    lock.writeLock().lock();
    try {
      if (!closed) {
        closed = true;
        release.closing = true;
        cleanable.clean();
      }
    } finally {
      lock.writeLock().unlock();
    }
  }
}
