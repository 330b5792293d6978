package dev.rasterloom.examples;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightEndpoint;
import org.apache.arrow.flight.FlightInfo;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.Location;
import org.apache.arrow.memory.ArrowBuf;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.RootAllocator;

/** Reads a merge by plain Arrow Flight, whole or not at all, in the memory of one batch. */
public final class ReadMerge {
  private static final String SPEC =
      """
      {"layers": [{"name": "coads_sst_jan"}, {"name": "oisst_19811231"}], "rowsKept": "ROWS_KEPT_ANY"}
      """.strip();
  private static final ObjectMapper JSON = new ObjectMapper();

  private ReadMerge() {}

  public static void main(String[] arguments) throws Exception {
    Location url = new Location(arguments[0]);
    try (BufferAllocator allocator = new RootAllocator();
        FlightClient client = FlightClient.builder(allocator, url).build()) {
      FlightInfo info = client.getInfo(FlightDescriptor.command(SPEC.getBytes(StandardCharsets.UTF_8)));
      ContentHash table = new ContentHash(info.getSchema());
      for (FlightEndpoint endpoint : info.getEndpoints()) { // north to south
        try (FlightStream stream = client.getStream(endpoint.getTicket())) {
          read(stream, table);
        }
      }
      System.out.println("rows " + table.rows());
      System.out.println("hash " + table);
    }
  }

  /** Reads one endpoint to its end; throws unless its trailer counts and hashes the rows that came. */
  private static void read(FlightStream stream, ContentHash table) throws Exception {
    ContentHash seen = new ContentHash(stream.getSchema());
    JsonNode trailer = null;
    while (stream.next()) {
      if (stream.getRoot().getRowCount() > 0) {
        seen.update(stream.getRoot());
        table.update(stream.getRoot()); // here a program does its work
        continue;
      }
      JsonNode said = metadata(stream.getLatestMetadata());
      if (said.path("complete").asBoolean()) {
        trailer = said; // a batch without rows that says false is a sign of life
      }
    }
    if (trailer == null) {
      throw new IllegalStateException("the stream ended after " + seen.rows() + " rows without a trailer");
    }
    if (trailer.path("rows").asLong() != seen.rows() || !trailer.path("hash").asText().equals(seen.toString())) {
      throw new IllegalStateException(seen.rows() + " rows of " + seen + " came, but the trailer is " + trailer);
    }
  }

  private static JsonNode metadata(ArrowBuf buffer) throws Exception {
    byte[] bytes = new byte[Math.toIntExact(buffer.readableBytes())];
    buffer.getBytes(buffer.readerIndex(), bytes);
    return JSON.readTree(bytes);
  }
}
