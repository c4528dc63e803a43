package org.bertology4j.benchmarks.peers;

/** Another library, in this process. Found by {@link java.util.ServiceLoader}. */
public interface Peer {
  /** Its short name. */
  String name();

  /** Its name and version. */
  String description();

  /** Gets ready for a task. */
  Prepared prepare(PeerTask task);

  /** Work that is ready to be done, any number of times. */
  interface Prepared {
    /** Does it. */
    void run();

    /** Does it and returns what came out. */
    float[] outputs();
  }
}
