"""Measures: how near generated pictures come to real ones, and whether they are new."""

from limner.metrics.evaluation import evaluate
from limner.metrics.frechet import Moments, frechet_distance, merged
from limner.metrics.inception_score import InceptionScore, inception_score
from limner.metrics.kid import KernelDistance, kernel_distance, mmd
from limner.metrics.manifold import Manifold, Overlap, overlap
from limner.metrics.measures import METRICS, check_metrics, default_for
from limner.metrics.originality import Copies, find_copies
from limner.metrics.panel import better, disagreements, remarks
from limner.metrics.per_class import ClassReport, per_class
from limner.metrics.report import Report, Row
from limner.metrics.scores import Receipt, Score

__all__ = [
    "METRICS",
    "ClassReport",
    "Copies",
    "InceptionScore",
    "KernelDistance",
    "Manifold",
    "Moments",
    "Overlap",
    "Receipt",
    "Report",
    "Row",
    "Score",
    "better",
    "check_metrics",
    "default_for",
    "disagreements",
    "evaluate",
    "find_copies",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "merged",
    "mmd",
    "overlap",
    "per_class",
    "remarks",
]
