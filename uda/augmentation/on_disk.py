"""Strings that are gone through again and again without staying in memory."""

import tempfile
from collections.abc import Iterable

import pyarrow as pa


def map_from_disk(chunks: Iterable[list[str]]) -> pa.ChunkedArray:
    """All strings of the chunks, as an array that is read from a temporary file when it is looked into."""
    schema = pa.schema([("text", pa.string())])
    with tempfile.NamedTemporaryFile(prefix="uda-texts-") as file:
        with pa.ipc.new_file(file, schema) as writer:
            for chunk in chunks:
                writer.write_batch(pa.record_batch([pa.array(chunk, pa.string())], schema=schema))
        file.flush()
        # On Linux and macOS the mapping outlives the file's name: nothing is left behind.
        return pa.ipc.open_file(pa.memory_map(file.name)).read_all()["text"]
