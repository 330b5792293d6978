"""The content hash that every stream ends with, for any table that Arrow can hold."""

import numpy as np
import pyarrow as pa
import xxhash


class ContentHash:
    """The hash of all rows given so far, as docs/flight.md defines it, however they are cut into batches.

    `schema` is the one that the server gave: it says which columns can be null.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.rows = 0
        self.values = [xxhash.xxh3_128() for _ in schema]
        self.validity = [xxhash.xxh3_128() for _ in schema]

    def update(self, rows: pa.RecordBatch | pa.Table) -> "ContentHash":
        """Add rows. Columns of other names or types than the server's are an error, not another hash."""
        if rows.schema.names != self.schema.names or rows.schema.types != self.schema.types:
            raise TypeError(f"these rows are\n{rows.schema}\nbut the server sent\n{self.schema}")
        self.rows += rows.num_rows
        for column, values, validity in zip(rows.columns, self.values, self.validity, strict=True):
            # Libraries leave anything under a null; the hash has zeros there, as the wire has.
            values.update(np.ascontiguousarray(column.fill_null(0).to_numpy()))
            validity.update(np.ascontiguousarray(column.is_valid().to_numpy(zero_copy_only=False)).view(np.uint8))
        return self

    def __str__(self) -> str:
        text = f"rasterloom 1 {self.rows}\n"
        for field, values, validity in zip(self.schema, self.values, self.validity, strict=True):
            dtype = np.dtype(field.type.to_pandas_dtype()).name
            text += f"{dtype} {values.hexdigest()} {validity.hexdigest() if field.nullable else '-'} {field.name}\n"
        return "xxh3-128:" + xxhash.xxh3_128_hexdigest(text.encode())
