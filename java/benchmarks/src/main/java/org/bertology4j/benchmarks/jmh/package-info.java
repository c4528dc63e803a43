/** JMH benchmarks of this library alone. */
package org.bertology4j.benchmarks.jmh;
