"""Rows and signals as JSON, as the durable stores keep them."""

from __future__ import annotations

import msgspec

from ..errors import StoreError
from ..types import jsonable

_encoder = msgspec.json.Encoder(enc_hook=jsonable)

NOT_PLAIN = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What encoding raises for values that are not plain data, lone surrogates included."""


def encode_row(row: object) -> bytes:
    """A row or signal as JSON. Raises StoreError when it holds what is not plain data."""
    try:
        return _encoder.encode(row)
    except NOT_PLAIN as error:
        raise StoreError(f"the record was not saved, it holds what is not plain data: {error}") from error
