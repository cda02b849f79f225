"""What happened, for a program (report.json) and for a person (report.html)."""

from dtp_edge.report.compare import compare_reports as compare_reports
from dtp_edge.report.frontier import front_gain as front_gain
from dtp_edge.report.schema import REPORT_SCHEMA as REPORT_SCHEMA
from dtp_edge.report.schema import SCHEMA_VERSION as SCHEMA_VERSION
from dtp_edge.report.schema import plain as plain
from dtp_edge.report.schema import read_report as read_report
from dtp_edge.report.schema import validate_report as validate_report
from dtp_edge.report.sweep_page import SWEEP_JSON as SWEEP_JSON
from dtp_edge.report.sweep_page import is_sweep as is_sweep
from dtp_edge.report.sweep_page import read_sweep as read_sweep
from dtp_edge.report.sweep_page import write_sweep as write_sweep
from dtp_edge.report.write import write_report as write_report
