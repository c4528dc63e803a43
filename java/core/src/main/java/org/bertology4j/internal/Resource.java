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

  private static final Runnable NOTHING = () -> {};

  private final String name;
  private final Release release;

  /**
   * @param owner the object that users hold
   * @param name what to call it in messages
   * @param free frees it; must not refer to the owner
   */
  public Resource(Object owner, String name, Runnable free) {
    this.name = name;
    this.release = new Release(name, free);
    CLEANER.register(owner, release);
  }

  /**
   * Reports, if leaks are to be reported, that an object was forgotten: one that has nothing of its
   * own to free but should be closed.
   *
   * @return to be run when it is closed
   */
  public static Runnable watch(Object owner, String name) {
    if (!REPORT_LEAKS) {
      return NOTHING;
    }
    Release release = new Release(name, NOTHING);
    CLEANER.register(owner, release);
    return release::close;
  }

  /**
   * What frees it. The garbage collector may find the owner unreachable while its last call is
   * still under way, so it waits for calls too.
   */
  private static final class Release implements Runnable {
    private final ReentrantReadWriteLock lock = new ReentrantReadWriteLock();
    private final String name;
    private final Runnable free;
    private final Throwable made;
    private boolean closed;

    Release(String name, Runnable free) {
      this.name = name;
      this.free = free;
      this.made = REPORT_LEAKS ? new Throwable("made here") : null;
    }

    /** The owner is unreachable. */
    @Override
    public void run() {
      if (close() && made != null) {
        System.err.println("bertology4j: a " + name + " was not closed");
        made.printStackTrace();
      }
    }

    /** Whether it was still open. */
    boolean close() {
      lock.writeLock().lock();
      try {
        if (closed) {
          return false;
        }
        closed = true;
        free.run();
        return true;
      } finally {
        lock.writeLock().unlock();
      }
    }
  }

  /**
   * Calls it while the resource is open: close() waits for it. What is called refers to the owner,
   * which keeps it reachable until the call has begun.
   */
  public <T> T use(Supplier<T> call) {
    return locked(release.lock.readLock(), call);
  }

  /** Calls it when all other calls have ended, and before others begin. */
  public <T> T useAlone(Supplier<T> call) {
    return locked(release.lock.writeLock(), call);
  }

  private <T> T locked(Lock held, Supplier<T> call) {
    held.lock();
    try {
      if (release.closed) {
        throw new BertologyException(Kind.CLOSED, "the " + name + " is closed");
      }
      return call.get();
    } finally {
      held.unlock();
    }
  }

  /** Waits for calls in progress and frees it. A second time does nothing. */
  public void close() {
    release.close();
  }
}
