/**
 * From text to {@link org.bertology4j.Batch batches} and back: {@linkplain
 * org.bertology4j.text.Tokenizer tokenizers}, {@linkplain org.bertology4j.text.Dataset data sets}
 * and what reads them, and the {@linkplain org.bertology4j.text.Metric metrics} of their tasks.
 */
package org.bertology4j.text;
