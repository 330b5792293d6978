"""What pyarrow's type stubs leave unknown, told in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    Field = pa.Field[Any]
    Array = pa.Array[Any]


def fields_of(schema: pa.Schema) -> list[Field]:
    """Give the fields of a schema, in order."""
    return [cast("Field", schema.field(i)) for i in range(len(schema))]  # pyright: ignore[reportUnknownMemberType]


def dtype_of(field: pa.Field[Any]) -> np.dtype[Any]:
    """Give the numpy type of a column of numbers."""
    return np.dtype(field.type.to_pandas_dtype())


def arrays_of(batch: pa.RecordBatch) -> list[Array]:
    """Give the columns of a batch, in order."""
    return cast("list[Array]", batch.columns)  # pyright: ignore[reportUnknownMemberType]
