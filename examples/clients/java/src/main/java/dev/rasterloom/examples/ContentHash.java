package dev.rasterloom.examples;

import com.dynatrace.hash4j.hashing.HashStream128;
import com.dynatrace.hash4j.hashing.HashValue128;
import com.dynatrace.hash4j.hashing.Hashing;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.apache.arrow.memory.ArrowBuf;
import org.apache.arrow.vector.BaseFixedWidthVector;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.types.FloatingPointPrecision;
import org.apache.arrow.vector.types.pojo.ArrowType;
import org.apache.arrow.vector.types.pojo.Field;
import org.apache.arrow.vector.types.pojo.Schema;

/** The hash of all rows given so far, as docs/flight.md defines it: it does not depend on how they are cut into batches. */
final class ContentHash {
  private final List<Field> fields;
  private final HashStream128[] values;
  private final HashStream128[] validity;
  private long rows;

  ContentHash(Schema schema) {
    fields = schema.getFields();
    values = new HashStream128[fields.size()];
    validity = new HashStream128[fields.size()];
    for (int i = 0; i < fields.size(); i++) {
      values[i] = Hashing.xxh3_128().hashStream();
      validity[i] = Hashing.xxh3_128().hashStream();
    }
  }

  /** Adds a batch as it came: under its nulls are zeros. */
  void update(VectorSchemaRoot batch) {
    int count = batch.getRowCount();
    rows += count;
    for (int i = 0; i < fields.size(); i++) {
      FieldVector column = batch.getVector(i);
      byte[] bytes = new byte[Math.multiplyExact(count, ((BaseFixedWidthVector) column).getTypeWidth())];
      ArrowBuf buffer = column.getDataBuffer();
      buffer.getBytes(0, bytes);
      values[i].putBytes(bytes);
      byte[] valid = new byte[count];
      for (int row = 0; row < count; row++) {
        valid[row] = (byte) (column.isNull(row) ? 0 : 1);
      }
      validity[i].putBytes(valid);
    }
  }

  long rows() {
    return rows;
  }

  @Override
  public String toString() {
    StringBuilder text = new StringBuilder("rasterloom 1 " + rows + "\n");
    for (int i = 0; i < fields.size(); i++) {
      Field field = fields.get(i);
      String nulls = field.isNullable() ? hex(validity[i].get()) : "-";
      text.append(String.join(" ", numpyName(field.getType()), hex(values[i].get()), nulls, field.getName())).append('\n');
    }
    byte[] utf8 = text.toString().getBytes(StandardCharsets.UTF_8);
    return "xxh3-128:" + hex(Hashing.xxh3_128().hashBytesTo128Bits(utf8));
  }

  private static String hex(HashValue128 hash) {
    return String.format("%016x%016x", hash.getMostSignificantBits(), hash.getLeastSignificantBits());
  }

  private static String numpyName(ArrowType type) {
    if (type instanceof ArrowType.Int integer) {
      return (integer.getIsSigned() ? "int" : "uint") + integer.getBitWidth();
    }
    if (type instanceof ArrowType.FloatingPoint number) {
      return number.getPrecision() == FloatingPointPrecision.SINGLE ? "float32" : "float64";
    }
    throw new IllegalArgumentException("a merge has no columns of type " + type);
  }
}
