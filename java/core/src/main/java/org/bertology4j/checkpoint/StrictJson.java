package org.bertology4j.checkpoint;

import com.google.gson.JsonElement;
import com.google.gson.JsonIOException;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import com.google.gson.stream.MalformedJsonException;
import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.Set;
import org.bertology4j.BertologyException;

/** JSON as its standard says: no comments, no trailing text, valid UTF-8, no name twice. */
final class StrictJson {
  /** Reads what the reader holds, member by member. */
  interface Body<T> {
    T read(JsonReader json) throws IOException;
  }

  private StrictJson() {}

  /**
   * Reads a range of a file that holds one value.
   *
   * @param where what to call it in messages
   */
  static <T> T read(DataFile file, long position, long length, String where, Body<T> body) {
    // Errors must be reported: the default replaces what is not UTF-8.
    InputStreamReader characters =
        new InputStreamReader(
            new BufferedInputStream(file.stream(position, length), 1 << 16),
            StandardCharsets.UTF_8
                .newDecoder()
                .onMalformedInput(CodingErrorAction.REPORT)
                .onUnmappableCharacter(CodingErrorAction.REPORT));
    try (JsonReader json = new JsonReader(characters)) {
      json.setStrictness(Strictness.STRICT);
      T result = body.read(json);
      BertologyException.check(
          json.peek() == JsonToken.END_DOCUMENT, "%s: text after the JSON value", where);
      return result;
    } catch (CharacterCodingException e) {
      throw new BertologyException(
          BertologyException.Kind.INVALID_ARGUMENT, where + " is not valid UTF-8", e);
    } catch (MalformedJsonException
        | EOFException
        | JsonParseException
        | IllegalStateException
        | NumberFormatException e) {
      throw new BertologyException(
          BertologyException.Kind.INVALID_ARGUMENT,
          where + " is not the JSON that it should be: " + e.getMessage(),
          e);
    } catch (IOException e) {
      throw BertologyException.io(e, "%s: cannot be read: %s", where, e);
    }
  }

  /** Reads a whole file that holds an object. */
  static JsonObject object(DataFile file) {
    String where = file.path().toString();
    JsonElement element = read(file, 0, file.size(), where, StrictJson::parse);
    BertologyException.check(
        element.isJsonObject(), "%s: expected a JSON object, found %s", where, kind(element));
    return element.getAsJsonObject();
  }

  private static JsonElement parse(JsonReader json) throws IOException {
    try {
      return JsonParser.parseReader(json);
    } catch (JsonIOException e) {
      if (e.getCause() instanceof IOException cause) {
        throw cause;
      }
      throw e;
    }
  }

  private static String kind(JsonElement element) {
    return element.isJsonArray() ? "an array" : element.isJsonNull() ? "null" : "a single value";
  }

  /** Reads the members of one object, and refuses a name that comes twice. */
  static final class Members {
    private final JsonReader json;
    private final String where;
    private final Set<String> seen = new HashSet<>();

    Members(JsonReader json, String where) throws IOException {
      this.json = json;
      this.where = where;
      json.beginObject();
    }

    /** Whether there is another member; at the end, the object has been left. */
    boolean hasNext() throws IOException {
      if (json.hasNext()) {
        return true;
      }
      json.endObject();
      return false;
    }

    String nextName() throws IOException {
      String name = json.nextName();
      BertologyException.check(
          seen.add(name), "%s: %s is there twice", where, Messages.quote(name));
      return name;
    }

    String nextString(String name) throws IOException {
      BertologyException.check(
          json.peek() == JsonToken.STRING,
          "%s: %s is %s, expected a text",
          where,
          Messages.quote(name),
          json.peek());
      return json.nextString();
    }
  }
}
