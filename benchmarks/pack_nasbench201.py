"""Make the table inside the package from the collected one: one parquet file, 15,625 rows.

    python benchmarks/pack_nasbench201.py PATH/nasbench201.parquet

Every column becomes a member of its own in an .npz (NumPy, no pickle), so that one can be
read without the others. The same input gives the same bytes.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyarrow.parquet import read_table

from archgrad.architecture import NASBENCH201_CANDIDATES, Architecture
from archgrad.landscapes.nasbench201 import ARCHITECTURES, PATH

EARLIEST = (1980, 1, 1, 0, 0, 0)  # the date of every member


def code(text: str) -> int:
    """The six candidates of a cell as digits to the base five, in the order of the string."""
    digits = [NASBENCH201_CANDIDATES.index(op) for op in Architecture.from_nasbench201(text).values()]
    return sum(digit * 5**place for place, digit in enumerate(reversed(digits)))


def columns(source: Path) -> dict[str, NDArray[np.generic]]:
    table = read_table(source)
    if table["index"].to_pylist() != list(range(ARCHITECTURES)):
        sys.exit(f"{source}: wanted the rows 0 to {ARCHITECTURES - 1} in order")
    codes = np.array([code(text) for text in table["arch"].to_pylist()])
    if sorted(codes) != list(range(ARCHITECTURES)):
        sys.exit(f"{source}: not every cell is there once")
    found: dict[str, NDArray[np.generic]] = {"code": codes.astype(np.uint16)}
    for name in table.column_names:
        if name in ("index", "arch"):
            continue
        values = table[name].to_numpy()
        if not np.isfinite(values).all():
            sys.exit(f"{source}: {name} has gaps")
        if name == "isomorphism_class":
            found[name] = values.astype(np.uint16)
        elif values.dtype.kind == "i":
            found[name] = values.astype(np.int32)
            assert (found[name] == values).all(), name
        else:
            found[name] = values.astype(np.float32)
    return found


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with zipfile.ZipFile(PATH, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, values in columns(Path(sys.argv[1])).items():
            member = io.BytesIO()
            np.lib.format.write_array(member, values, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", EARLIEST)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, member.getvalue())
    print(f"{PATH.name}: {PATH.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
