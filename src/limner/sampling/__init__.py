"""How pictures are drawn from a model: discretizations, solvers, guidance, and the loop over them."""

from limner.sampling.completing import complete
from limner.sampling.discretization import DISCRETIZATIONS, DiscreteTimes, EDMTimes, FlowTimes
from limner.sampling.draw import evaluations, resolve, sample, to_pixels
from limner.sampling.guidance import Guided, autoguidance, classifier_free, clipped
from limner.sampling.inversion import invert
from limner.sampling.likelihood import log_likelihood
from limner.sampling.multistep import DPMSolverPP2M, UniPC
from limner.sampling.one_step import DDIM, DDPM, Euler, Heun, Jump
from limner.sampling.prompts import condition_for, labels_for
from limner.sampling.refining import Trajectories, advance, begin
from limner.sampling.solvers import SOLVERS

__all__ = [
    "DDIM",
    "DDPM",
    "DISCRETIZATIONS",
    "SOLVERS",
    "DPMSolverPP2M",
    "DiscreteTimes",
    "EDMTimes",
    "Euler",
    "FlowTimes",
    "Guided",
    "Heun",
    "Jump",
    "Trajectories",
    "UniPC",
    "advance",
    "autoguidance",
    "begin",
    "classifier_free",
    "clipped",
    "complete",
    "condition_for",
    "evaluations",
    "invert",
    "labels_for",
    "log_likelihood",
    "resolve",
    "sample",
    "to_pixels",
]
