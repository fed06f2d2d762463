"""Results to look at: a table as one HTML page, faces drawn on their image.

Reading the table is in `fever_extract.tables`; nothing here extracts.
"""

from fever_extract.report.page import Report, write_report

__all__ = ["Report", "write_report"]
