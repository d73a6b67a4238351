"""Generators side by side: the same seeds, the same measures, one table, one page."""

from limner.comparison.contenders import Contender, Cost
from limner.comparison.page import PAGE, free, write_page
from limner.comparison.side_by_side import JUDGED, Line, SideBySide, compare
from limner.comparison.table import table

__all__ = ["JUDGED", "PAGE", "Contender", "Cost", "Line", "SideBySide", "compare", "free", "table", "write_page"]
