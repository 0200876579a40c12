r"""What the Free Music Archive's authors publish: names, sums and sizes of the archives (https://github.com/mdeff/fma).

Members are `fma_small/README.txt`, `fma_small/checksums`, `fma_small/000/000002.mp3`; all are packed with bzip2.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

FMA_URL = "https://os.unil.cloud.switch.ch/fma/"

# Sizes of archives that nobody measured are rounded, so a limit must lie above them.
_SLACK = 1.5

_CLIPS = r"README\.txt|checksums|([0-9]{3})/\1[0-9]{3}\.mp3"
_TABLES = r"README\.txt|checksums|[a-z_]+\.csv"


@dataclass(frozen=True)
class Archive:
    """One zip file of a corpus.

    Parameters
    ----------
    name : str
        The zip's name without its ending, and the folder that all its members lie in.
    sha1 : str
        SHA-1 of the zip, 40 hexadecimal digits.
    approx_zip_bytes, approx_unpacked_bytes, approx_members : int
        Size of the zip, size of what it holds, and number of its members, not necessarily to the byte.
    pattern : str
        Regular expression of the members' names below the folder.
    left_out : frozenset of str
        Members that are never written.
    """

    name: str
    sha1: str
    approx_zip_bytes: int
    approx_unpacked_bytes: int
    approx_members: int
    pattern: str = _CLIPS
    left_out: frozenset[str] = frozenset()

    @property
    def zip_name(self) -> str:
        """File name of the zip."""
        return f"{self.name}.zip"

    @property
    def max_zip_bytes(self) -> int:
        """More than this is not fetched."""
        return round(self.approx_zip_bytes * _SLACK)

    @property
    def max_unpacked_bytes(self) -> int:
        """More than this is not unpacked."""
        return round(self.approx_unpacked_bytes * _SLACK)

    @property
    def max_members(self) -> int:
        """A zip with more members is refused."""
        return round(self.approx_members * _SLACK)

    def expects(self, name: str) -> bool:
        """Tell whether a name below the folder is one that the archive may hold."""
        return re.fullmatch(self.pattern, name) is not None


# Exact are the zips of metadata, small and large, and what small unpacks to; the others' sizes are rounded.
ARCHIVES: Mapping[str, Archive] = MappingProxyType(
    {
        "metadata": Archive(
            "fma_metadata",
            "f0df49ffe5f2a6008d7dc83c6915b31835dfe733",
            358_412_441,
            1_400_000_000,
            12,
            pattern=_TABLES,
            # Reading a pickle runs code, so there shall be none.
            left_out=frozenset({"not_found.pickle"}),
        ),
        "small": Archive("fma_small", "ade154f733639d52e35e32f5593efe5be76c6d70", 7_679_594_875, 7_975_472_258, 8_002),
        "medium": Archive(
            "fma_medium", "c67b69ea232021025fca9231fc1c7c1a063ab50b", 23_600_000_000, 24_800_000_000, 25_002
        ),
        "large": Archive(
            "fma_large", "497109f4dd721066b5ce5e5f250ec604dc78939e", 100_306_112_191, 105_000_000_000, 106_576
        ),
        "full": Archive(
            "fma_full", "0f0ace23fbe9ba30ecb7e95f763e435ea802b8ab", 944_000_000_000, 985_000_000_000, 106_576
        ),
    }
)
