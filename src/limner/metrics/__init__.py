"""Measures: how near generated pictures come to real ones, and whether they are new."""

from .evaluate import evaluate
from .frechet import Moments, frechet_distance, merged
from .kid import KernelDistance, kernel_distance, mmd
from .manifold import Manifold, Overlap, overlap
from .measures import METRICS
from .originality import Copies, find_copies
from .report import Receipt, Report, Row, Score

__all__ = [
    "METRICS",
    "Copies",
    "KernelDistance",
    "Manifold",
    "Moments",
    "Overlap",
    "Receipt",
    "Report",
    "Row",
    "Score",
    "evaluate",
    "find_copies",
    "frechet_distance",
    "kernel_distance",
    "merged",
    "mmd",
    "overlap",
]
