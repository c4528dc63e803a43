package org.bertology4j.text;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.util.function.Consumer;
import org.bertology4j.BertologyException;

/** Reads a JSON object a line. Blank lines are left out. */
final class JsonLines {
  private JsonLines() {}

  /** An object with the line that it is in. */
  record Row(String where, long line, JsonObject object) {
    /** A string. */
    String text(String key) {
      JsonElement value = value(key);
      BertologyException.check(
          value instanceof JsonPrimitive primitive && primitive.isString(),
          "%s:%d: \"%s\" is %s, expected a string",
          where,
          line,
          key,
          value);
      return value.getAsString();
    }

    /** A string, a number or a boolean as text; nothing if it is null. */
    String label(String key) {
      JsonElement value = value(key);
      if (value.isJsonNull()) {
        return "";
      }
      BertologyException.check(
          value.isJsonPrimitive(),
          "%s:%d: \"%s\" is %s, expected a string or a number",
          where,
          line,
          key,
          value);
      return value.getAsString();
    }

    private JsonElement value(String key) {
      BertologyException.check(
          object.has(key),
          "%s:%d has no \"%s\", its keys are %s",
          where,
          line,
          key,
          object.keySet());
      return object.get(key);
    }
  }

  /**
   * Hands over each object, and closes the stream.
   *
   * @param where what to call the file in messages
   */
  static void forEach(InputStream in, String where, Consumer<Row> action) {
    try (BufferedReader lines = Utf8Reader.lines(in, where)) {
      long number = 0;
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        number++;
        if (!line.isBlank()) {
          action.accept(new Row(where, number, Json.parse(line, where + ":" + number)));
        }
      }
    } catch (IOException e) {
      throw BertologyException.io(e, "%s cannot be read: %s", where, e);
    }
  }
}
