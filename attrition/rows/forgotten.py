"""Replace the names of forgotten clients in what a source delivers, so that no delivery restores them.

No name is stored: a name is recognised by its HMAC under a key that only this installation has. Tokens
are random, so nobody can compute one from a name.
"""

import csv
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from attrition.config import Config
from attrition.data.cells import read_client
from attrition.data.schema import Refusal, ValidatedRows, raw_text
from attrition.errors import Damaged
from attrition.storage import files


@dataclass(frozen=True)
class Forgotten:
    """The key, and the token by the HMAC of each forgotten name."""

    key: str = ""
    tokens: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> str | None:
        """Return the token of a name; None if it is not forgotten."""
        return self.tokens.get(self.sign(name))

    def add(self, name: str, token: str) -> "Forgotten":
        """Return these names and one more."""
        return replace(self, tokens={**self.tokens, self.sign(name): token})

    def sign(self, text: str) -> str:
        """Return the HMAC of a text."""
        data = text.encode("utf-8", "surrogatepass")
        return hmac.digest(bytes.fromhex(self.key), data, "sha256").hex()

    def replace(self, names: pa.Array) -> pa.Array:
        """Return names with tokens in place of the forgotten ones; names: without nulls."""
        if not self.tokens:
            return names
        encoded = names.dictionary_encode()
        levels = encoded.dictionary.to_pylist()
        if not any(tokens := [self.find(name) for name in levels]):
            return names
        pairs = zip(tokens, levels, strict=True)
        return pa.array([token or name for token, name in pairs], pa.string()).take(encoded.indices)

    def replace_in(self, rows: ValidatedRows, client: str) -> ValidatedRows:
        """Return validated rows with tokens, also in the cells and lines as delivered.

        client: the name of the column of clients
        """
        if not self.tokens:
            return rows
        names = self.replace(rows.columns[client])
        refused = [self._replace_refused(each) for each in rows.refused]
        if names is rows.columns[client]:
            return replace(rows, refused=refused)
        is_new = pc.not_equal(names, rows.columns[client])
        delivered = [self._replace_cells(column, is_new) for column in rows.delivered]
        columns = {**rows.columns, client: names}
        return replace(rows, columns=columns, delivered=delivered, refused=refused)

    def _replace_cells(self, cells: pa.Array, is_theirs: pa.Array) -> pa.Array:
        """Return delivered cells with tokens for the names; is_theirs: the rows of forgotten clients."""
        texts = [self._replace_cell(cell) for cell in cells.filter(is_theirs).to_pylist()]
        return pc.replace_with_mask(cells, is_theirs, pa.array(texts, pa.string()))

    def _replace_cell(self, cell: str) -> str:
        return self.find(read_client(cell, "").value) or cell

    def _replace_refused(self, refusal: Refusal) -> Refusal:
        cells = next(csv.reader([refusal.raw], strict=False), [])
        tokens = [self._replace_cell(cell) for cell in cells]
        if tokens == cells:
            return refusal
        reason = refusal.reason
        for cell, token in zip(cells, tokens, strict=True):
            reason = reason.replace(cell, token) if cell != token else reason
        return refusal._replace(reason=reason, raw=raw_text(tokens))


def refuse(config: Config, names: Iterable[str]) -> str:
    """Return why nothing about these clients must be stored, "" if it may; the record is read anew.

    Raises: Damaged.
    """
    hidden = read(config)
    is_forgotten = any(hidden.find(name) for name in names)
    return "this client was forgotten on request; nothing is stored" if is_forgotten else ""


def read(config: Config) -> Forgotten:
    """Read which names are forgotten.

    Raises: Damaged; without the record, deliveries would restore the names.
    """
    try:
        record = files.read_record(config.forgotten)
    except Damaged as error:
        raise Damaged(
            f"{error}; restore a backup of it. Without it, the names of forgotten clients would return "
            "with the next delivery"
        ) from error
    return Forgotten(record["key"], record["tokens"]) if record else Forgotten()
