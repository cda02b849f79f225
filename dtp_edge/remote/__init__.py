"""Another machine that does one job: over the system's OpenSSH or adb, with a plain Python there."""

from dtp_edge.remote.board import Answer as Answer
from dtp_edge.remote.board import Remote as Remote
from dtp_edge.remote.board import remote_of as remote_of
from dtp_edge.remote.board import run_job as run_job
