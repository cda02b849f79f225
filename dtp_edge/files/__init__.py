"""How outside files are opened, bounded and decoded, and how files are written: whole or not at all."""

from dtp_edge.files.npz import read_npz as read_npz
from dtp_edge.files.reading import open_file as open_file
from dtp_edge.files.reading import read_bytes as read_bytes
from dtp_edge.files.reading import read_text as read_text
from dtp_edge.files.reading import require_regular as require_regular
from dtp_edge.files.structured import LARGEST as LARGEST
from dtp_edge.files.structured import Bounds as Bounds
from dtp_edge.files.structured import check_bounds as check_bounds
from dtp_edge.files.structured import read_csv as read_csv
from dtp_edge.files.structured import read_csv_lines as read_csv_lines
from dtp_edge.files.structured import read_json as read_json
from dtp_edge.files.writing import DISK_FAULTS as DISK_FAULTS
from dtp_edge.files.writing import require_spellable as require_spellable
from dtp_edge.files.writing import unwritable as unwritable
from dtp_edge.files.writing import whole_file as whole_file
from dtp_edge.files.writing import write_bytes as write_bytes
from dtp_edge.files.writing import write_text as write_text
