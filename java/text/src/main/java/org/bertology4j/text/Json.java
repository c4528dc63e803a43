package org.bertology4j.text;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import java.io.IOException;
import java.io.StringReader;
import org.bertology4j.BertologyException;

/** Reads JSON strictly. */
final class Json {
  private Json() {}

  /**
   * Reads a JSON object.
   *
   * @param where what to call it in messages
   */
  static JsonObject parse(String text, String where) {
    JsonReader reader = new JsonReader(new StringReader(text));
    reader.setStrictness(Strictness.STRICT);
    try {
      JsonElement value = JsonParser.parseReader(reader);
      BertologyException.check(value.isJsonObject(), "%s: expected a JSON object", where);
      if (reader.peek() != JsonToken.END_DOCUMENT) {
        throw new JsonParseException("there is more behind the object");
      }
      return value.getAsJsonObject();
    } catch (JsonParseException | IOException e) {
      throw new BertologyException(
          BertologyException.Kind.INVALID_ARGUMENT,
          where + ": not JSON: " + problem(e.getMessage()),
          e);
    }
  }

  /** Gson's messages go on with advice for programmers. */
  private static String problem(String message) {
    String first = message.lines().findFirst().orElse("");
    return first
        .replaceFirst("^.*Exception: ", "")
        .replaceFirst("^Use JsonReader\\S* to accept malformed JSON", "malformed");
  }
}
