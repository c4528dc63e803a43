/** Other libraries on the same work: workers that run them, and whether they compute the same. */
package org.bertology4j.benchmarks.peers;
