"""How pictures are drawn from a model: discretizations, solvers, guidance, and the loop over them."""

from limner.sampling.discretization import DISCRETIZATIONS, EDMTimes, FlowTimes
from limner.sampling.draw import Trajectories, advance, begin, evaluations, labels_for, resolve, sample, to_pixels
from limner.sampling.guidance import classifier_free
from limner.sampling.solvers import DDIM, SOLVERS, Euler, Heun

__all__ = [
    "DDIM",
    "DISCRETIZATIONS",
    "SOLVERS",
    "EDMTimes",
    "Euler",
    "FlowTimes",
    "Heun",
    "Trajectories",
    "advance",
    "begin",
    "classifier_free",
    "evaluations",
    "labels_for",
    "resolve",
    "sample",
    "to_pixels",
]
