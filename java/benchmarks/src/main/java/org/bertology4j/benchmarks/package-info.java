/** Benchmarks: of this library alone, beside other libraries, and against earlier results. */
package org.bertology4j.benchmarks;
