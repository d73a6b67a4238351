"""What a model is. One page, read first; no base class beyond ``nn.Module``.

Images are made by *refining* noise step by step, which a :class:`Denoiser` does, by *extending* what is written site
by site, which an :class:`Autoregressor` does, or by *decoding* a code in one pass, which a :class:`Generator` does.
Between images and what these see may stand a :class:`Codec`, and a :class:`Model` is what ``limner.load`` returns and
every operation takes.

Inside, pictures are float32, NCHW, in [-1, 1]; at the edges uint8, or uint16 where a spec has 16 bits, NHWC.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor, nn

from limner.distributions import Distribution
from limner.errors import UserError, within
from limner.text import NO_TOKEN, CaptionTokenizer

Mode = Literal["L", "RGB", "RGBA"]
CHANNELS: dict[str, int] = {"L": 1, "RGB": 3, "RGBA": 4}

Precision = Literal["float32", "bfloat16"]
"""Of a network's products; its weights and sums are float32 in any case."""


def arithmetic(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which networks compute in that precision."""
    # Not cached: before 2.11 or so torch would take weights that were cast where no gradient was asked for again where
    # one is, and lose it.
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False)


LATENTS, TOKENS = "latents", "tokens"
"""The modes of what is no picture but a codec's."""


@dataclass(frozen=True)
class ImageSpec:
    """What an image of a model is: ``size`` is (height, width), ``bits`` are 8 or 16. A latent has a spec too, and so
    have tokens, each of which is one of so many ``codes``; where they are of several maps, from coarse to fine,
    ``scales`` are the sizes of these, and ``size`` that of the last."""

    channels: int
    size: tuple[int, int]
    mode: str
    bits: int = 8
    codes: int = 0
    scales: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.bits not in (8, 16):
            raise UserError(f"pictures of {self.bits} bits are not known; they have 8 or 16")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample inside: (C, H, W), or (T,) of tokens, in the order of writing."""
        return (self.values,) if self.codes else (self.channels, *self.size)

    @property
    def values(self) -> int:
        """How many numbers one sample has."""
        return self.channels * sum(height * width for height, width in self.scales or (self.size,))

    @property
    def levels(self) -> int:
        """How many values each of its numbers may have."""
        return self.codes or 2**self.bits


@dataclass(frozen=True)
class DataStats:
    """What a network may know of its data beforehand, on the scale of [-1, 1].

    Attributes:
        mean: of each channel.
        std: of all values around the means of their channels.
    """

    mean: tuple[float, ...]
    std: float


@dataclass(frozen=True)
class Condition:
    """What steers a sample. Every field may be None: then the model is free in it.

    ``label``: (N,) int64; -1 is the null label, which a model trained with condition dropout knows as "any".
    ``text``: (N, L) int64, numbers of text tokens; -1 is none, and a text of nothing else is "any text".
    """

    label: Tensor | None = None
    text: Tensor | None = None

    def _map(self, change: Callable[[Tensor], Tensor]) -> Condition:
        fields = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return Condition(**{name: None if value is None else change(value) for name, value in fields})

    def to(self, device: torch.device | str) -> Condition:
        return self._map(lambda value: value.to(device))

    def index(self, which: Tensor | slice) -> Condition:
        return self._map(lambda value: value[which])

    def dropped(self, drop: Tensor | None = None) -> Condition:
        """The condition with the samples where ``drop`` (N,) bool is true set free; all of them if it is None."""

        def free(value: Tensor) -> Tensor:
            null = torch.full_like(value, NO_TOKEN)
            return null if drop is None else torch.where(drop.reshape(-1, *[1] * (value.ndim - 1)), null, value)

        return self._map(free)

    @staticmethod
    def cat(parts: list[Condition]) -> Condition:
        joined: dict[str, Tensor] = {}
        for name in (f.name for f in dataclasses.fields(Condition)):
            values = [getattr(part, name) for part in parts]
            present = [value for value in values if value is not None]
            if present and len(present) != len(values):
                raise ValueError(f"conditions with and without a {name} cannot be joined; drop the {name}s first")
            if present:
                joined[name] = torch.cat(present)
        return Condition(**joined)


@dataclass(frozen=True)
class Level:
    """A noise level a sample: x = alpha * x0 + sigma * noise, both (N,). ``alpha`` may be 0 (flow at t = 1).

    EDM keeps alpha = 1; flow has alpha = 1 - t and sigma = t; variance preserving alpha² + sigma² = 1. Only the ratio
    says how noisy a picture is: x scaled by c is at the level (c * alpha, c * sigma).
    """

    alpha: Tensor
    sigma: Tensor

    def index(self, which: Tensor | slice) -> Level:
        return Level(self.alpha[which], self.sigma[which])

    def like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma), shaped to broadcast over x (N, ...)."""
        shape = (-1, *[1] * (x.ndim - 1))
        return self.alpha.reshape(shape), self.sigma.reshape(shape)


@dataclass(frozen=True)
class Prediction:
    """What a denoiser says of x: the clean picture, in whichever of four words a network is taught to say it.

    For one x and one level, ``x0``, the noise, the velocity and v each imply the others, without loss where the
    divisor is not zero: the noise needs sigma > 0 and x0 from the noise needs alpha > 0.

    Attributes:
        x0: shaped like x.
        variance: where it is learned, the place of the reverse step's log-variance between its two bounds, 0 to 1
            (Nichol and Dhariwal 2021, equation 15), shaped like x.
    """

    x0: Tensor
    variance: Tensor | None = None

    def moved(self, x: Tensor, at: Level, to: Level) -> Tensor:
        """x at ``to`` as if x0 were right all the way, Euler's step of the probability flow; needs sigma > 0."""
        alpha, sigma = to.like(x)
        return alpha * self.x0 + sigma * self.noise(x, at)

    def noise(self, x: Tensor, at: Level) -> Tensor:
        """The noise that x0 implies, (x - alpha x0) / sigma; needs sigma > 0."""
        alpha, sigma = at.like(x)
        return (x - alpha * self.x0) / sigma

    def velocity(self, x: Tensor, at: Level) -> Tensor:
        """noise - x0, rectified flow's direction; needs sigma > 0."""
        return self.noise(x, at) - self.x0

    def v(self, x: Tensor, at: Level) -> Tensor:
        """(alpha noise - sigma x0) / (alpha² + sigma²)^1/2 (Salimans and Ho 2022, appendix D); needs sigma > 0."""
        alpha, sigma = at.like(x)
        return (alpha * self.noise(x, at) - sigma * self.x0) / (alpha.square() + sigma.square()).sqrt()

    @staticmethod
    def of_move(x: Tensor, at: Level, landed: Tensor, to: Level) -> Prediction:
        """The x0 by which x at ``at`` would be ``moved`` to ``landed`` at the less noisy ``to``."""
        (alpha, sigma), (next_alpha, next_sigma) = at.like(x), to.like(x)
        kept = next_sigma / sigma
        return Prediction((landed - kept * x) / (next_alpha - alpha * kept))

    @staticmethod
    def of_noise(x: Tensor, at: Level, noise: Tensor) -> Prediction:
        """From a guess of the noise; needs alpha > 0."""
        alpha, sigma = at.like(x)
        return Prediction((x - sigma * noise) / alpha)

    @staticmethod
    def of_velocity(x: Tensor, at: Level, velocity: Tensor) -> Prediction:
        """From a guess of noise - x0."""
        alpha, sigma = at.like(x)
        return Prediction((x - sigma * velocity) / (alpha + sigma))

    @staticmethod
    def of_v(x: Tensor, at: Level, v: Tensor) -> Prediction:
        """From a guess of v."""
        alpha, sigma = at.like(x)
        square = alpha.square() + sigma.square()
        return Prediction(alpha / square * x - sigma / square.sqrt() * v)


class Denoiser(nn.Module):
    """Guesses the clean picture from a noisy one, at any level of noise."""

    def forward(self, x: Tensor, at: Level, cond: Condition) -> Prediction:
        raise NotImplementedError


class FlowMap(Denoiser):
    """Knows not only where a path leads now but where it arrives: consistency trajectories, MeanFlow, shortcuts."""

    def jump(self, x: Tensor, at: Level, to: Level, cond: Condition) -> Tensor:
        """x at the less noisy level ``to``, on the probability flow's path through x at ``at``, in one evaluation."""
        raise NotImplementedError


Noise = Callable[[str, tuple[int, ...]], Tensor]
"""(name, shape) to standard normal noise, (N, *shape): the same for a sample in whatever batch it is."""


class Generator(nn.Module):
    """Makes a picture of a code in one pass.

    Attributes:
        code: how many numbers a code z has, (N, code); they are drawn from N(0, 1).
    """

    code: int

    def latent(self, z: Tensor, cond: Condition) -> Tensor:
        """The code w that :meth:`synthesize` takes: z itself, unless a network maps it first."""
        return z

    def center(self, cond: Condition) -> Tensor:
        """The mean of w, to which truncation draws codes, of a shape that broadcasts over them."""
        return torch.zeros((), device=next(self.parameters()).device)

    def hearing(self) -> list[Tensor]:
        """The matrices (features, K) by which layers hear w, for who asks in which directions they listen."""
        raise NotImplementedError

    def synthesize(self, w: Tensor, cond: Condition, noise: Noise) -> Tensor:
        """The pictures (N, C, H, W), in [-1, 1] or near it. ``noise`` is for what a code leaves open."""
        raise NotImplementedError

    def forward(self, z: Tensor, cond: Condition, noise: Noise) -> Tensor:
        return self.synthesize(self.latent(z, cond), cond, noise)


class StyleGenerator(Generator):
    """A generator whose w speaks to every layer, so that layers may be told different ones.

    Attributes:
        styles: how many places w goes to; :meth:`synthesize` also takes (N, styles, K).
    """

    styles: int

    def settle(self, codes: Tensor, cond: Condition) -> None:
        """Measure the mean of w, which :meth:`center` tells, over codes (N, code)."""
        raise NotImplementedError


class Autoencoding(Generator):
    """A generator that also knows which codes a picture may have come from: a variational autoencoder.

    Attributes:
        continuous: whether :meth:`log_prob` is of values that lie anywhere within their levels, spread over these.
    """

    continuous: bool = False

    def inverse_latent(self, w: Tensor, cond: Condition) -> tuple[Tensor, Tensor]:
        """The code z (N, code) that :meth:`latent` takes to w, and ln |det dz / dw| (N,): what p(w) follows from."""
        return w, torch.zeros_like(w[:, 0])

    def posterior(self, x: Tensor, cond: Condition) -> tuple[Tensor, Tensor]:
        """Mean and ln variance, (N, code) each, of the codes w of pictures x (N, C, H, W)."""
        raise NotImplementedError

    def log_prob(self, x: Tensor, w: Tensor, cond: Condition) -> Tensor:
        """ln p(x | w) in nats, (N,), of pictures whose values have so many levels as the training's."""
        raise NotImplementedError


class Written(Protocol):
    """What an autoregressive model keeps of pictures that are being written."""

    def index(self, which: Tensor) -> Self:
        """Of the pictures (N,) int64 of these numbers, some of them perhaps several times."""


class Autoregressor(nn.Module):
    """Writes a picture site by site, each given all before it: a site is a pixel, a token, or all tokens of a scale.

    What it writes are whole numbers (N, T), the values of all sites in the order of writing: a pixel's are the levels
    of its channels, from 0 to 2**bits - 1, and a token is the number of a code.

    Attributes:
        sites: how many values each site has, in the order of writing.
    """

    @property
    def sites(self) -> tuple[int, ...]:
        raise NotImplementedError

    def log_prob(self, values: Tensor, cond: Condition) -> Tensor:
        """ln p of each site given those before it, in nats, (N, S), of all sites side by side."""
        raise NotImplementedError

    def init_state(self, n: int, cond: Condition) -> tuple[Written, Distribution]:
        """What is kept of n pictures of which nothing is written, and what their first site may be. What is kept, in
        dataclasses, lists and tuples, takes as much memory now as at the last site."""
        raise NotImplementedError

    def step(self, value: Tensor, state: Any) -> tuple[Written, Distribution]:
        """Write the values (N, V) of a site: what is kept then, and what the next site may be. The state that was
        given is used up; the last site's values are not written."""
        raise NotImplementedError


class Captioned(Autoregressor):
    """Writes a picture after its text, and knows how likely the text is too."""

    def log_probs(self, values: Tensor, cond: Condition) -> tuple[Tensor, Tensor]:
        """ln p, in nats, of each site given the text and the sites before it, (N, S), and of each of the text's tokens
        given those before it, (N, L), which is 0 where there is none."""
        raise NotImplementedError


class Codec(nn.Module):
    """Stands between pictures and what a model sees."""

    def encode(self, x: Tensor) -> Tensor:
        """Latents (N, c, h, w), of mean 0 and deviation 1 or near it, of pictures (N, C, H, W)."""
        raise NotImplementedError

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, (N, c, h, w) each, of the latents that pictures may have; by default there is
        one for each picture, that of :meth:`encode`."""
        z = self.encode(x)
        return z, torch.zeros_like(z)

    def decode(self, z: Tensor) -> Tensor:
        """Pictures (N, C, H, W), in [-1, 1] or near it, of latents."""
        raise NotImplementedError

    def latent_spec(self, spec: ImageSpec) -> ImageSpec:
        """What its latents are, of pictures of this kind."""
        raise NotImplementedError


class Tokenizer(Codec):
    """A codec whose latents are one of some codes each.

    Attributes:
        tokens: how many codes there are.
    """

    tokens: int

    def tokenize(self, x: Tensor) -> Tensor:
        """The numbers of codes, (N, T) int64 in the order of writing, of pictures (N, C, H, W)."""
        raise NotImplementedError

    def embed(self, tokens: Tensor) -> Tensor:
        """The latents (N, c, h, w), as :meth:`decode` takes them, of codes (N, T) of pictures of the codec's size."""
        raise NotImplementedError

    def token_spec(self, spec: ImageSpec) -> ImageSpec:
        """What its tokens are, of pictures of this kind."""
        return ImageSpec(1, self.latent_spec(spec).size, TOKENS, codes=self.tokens)

    def touched(self, mask: Tensor) -> Tensor:
        """Which tokens stand for a pixel of a mask (H, W) bool, (T,) bool."""
        raise NotImplementedError


@dataclass(frozen=True)
class Bound:
    """What a model thinks of pictures: ln p, (N,), and how it is to be read.

    Attributes:
        nats: of whole pictures of discrete values, or densities where the caller says so.
        kind: "exact", "lower" (a lower bound, as an ELBO is, or an unbiased estimate of one), or "estimate"
            (unbiased or nearly so).
        how: it was found, for a receipt: the method, and what was made of discrete values.
        tokens: how many a picture has, where it is ln p of a codec's tokens and not of the picture; 0 where it is.
    """

    nats: Tensor
    kind: Literal["exact", "lower", "estimate"]
    how: str = ""
    tokens: int = 0

    def bits_per_dimension(self, dimensions: int) -> Tensor:
        """-log2 p / dimensions, (N,), of pictures.

        Raises:
            UserError: it is of tokens, several of which may be one picture, and many pictures none.
        """
        if self.tokens:
            raise UserError("this likelihood is of a codec's tokens: it has nats a token, and no bits a dimension")
        return -self.nats / (dimensions * math.log(2))

    def nats_per_token(self) -> Tensor:
        """-ln p / tokens, (N,), where it is of tokens."""
        return -self.nats / self.tokens


@dataclass(frozen=True)
class RefineConfig:
    """How samples of a denoiser are drawn unless the caller says otherwise.

    Attributes:
        steps: how many steps the solver takes (``heun`` evaluates the model twice a step but the last).
        solver: a name of :data:`limner.sampling.SOLVERS`.
        guidance: w of classifier-free guidance, uncond + w (cond - uncond); 1 is off.
        guidance_from: guidance is on only where sigma / (alpha + sigma) is at least this much (interval guidance,
            Kynkäänniemi et al. 2024) ...
        guidance_to: ... and at most this much.
        churn: EDM's stochasticity S_churn, for ``heun``.
        eta: how much fresh noise ``ddim``, ``dpmpp_2m`` and ``jump`` add: 0 is deterministic; 1 is DDPM's ancestral
            step, the reverse SDE, or jumps to a picture each time.
        variance: which bound ``ddpm`` takes for its variance, "small" or "large", unless the model has learned it.
        discretization: a name of :data:`limner.sampling.DISCRETIZATIONS`.
        shift: time shift of the flow discretization; above 1 spends more steps at high noise.
        sigma_min, sigma_max, rho: of the EDM discretization.
        noise_schedule: of the discrete one, a name of :data:`limner.noise_schedules.BETAS`.
        zero_terminal_snr: of the discrete one: its last level is noise alone.
        spacing: of the discrete one: which of its 1,000 levels are visited, "trailing", "leading" or "linspace".
        clip: keep what is taken for the picture within [-1, 1] at every step, as DDPM does.

    Raises:
        UserError: a number outside its bounds.
    """

    steps: int = 16
    solver: str = "heun"
    guidance: float = 1.0
    guidance_from: float = 0.0
    guidance_to: float = 1.0
    churn: float = 0.0
    eta: float = 0.0
    variance: Literal["small", "large"] = "small"
    discretization: str = "flow"
    shift: float = 1.0
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    noise_schedule: str = "linear"
    zero_terminal_snr: bool = False
    spacing: str = "trailing"
    clip: bool = False

    def __post_init__(self) -> None:
        bounds: dict[str, tuple[float, float]] = {
            "steps": (1, 10_000),
            "guidance": (-1000, 1000),
            "guidance_from": (0, 1),
            "guidance_to": (0, 1),
            "churn": (0, 1_000_000),
            "eta": (0, 1),
            "shift": (0.001, 1000),
            "sigma_min": (1e-6, 1_000_000),
            "sigma_max": (1e-6, 1_000_000),
            "rho": (0.1, 1000),
        }
        for name, (lowest, highest) in bounds.items():
            within(name, getattr(self, name), lowest, highest)
        if self.sigma_min >= self.sigma_max:
            raise UserError(f"sigma_min is {self.sigma_min}; give a number below sigma_max, {self.sigma_max}")


@dataclass(frozen=True)
class DecodeConfig:
    """How samples of a generator are drawn unless the caller says otherwise.

    Attributes:
        truncation: psi of w' = mean + psi (w - mean) (Karras et al. 2019): below 1 pictures are more typical and less
            various.
        cut: codes z are drawn from a normal distribution cut at this many standard deviations (Brock et al. 2019); 0
            leaves it whole.

    Raises:
        UserError: a number outside its bounds.
    """

    truncation: float = 1.0
    cut: float = 0.0

    def __post_init__(self) -> None:
        within("truncation", self.truncation, -10, 10)
        within("cut", self.cut, 0, 100)


@dataclass(frozen=True)
class ExtendConfig:
    """How an autoregressive model writes samples unless the caller says otherwise.

    Attributes:
        temperature: by which every value's logits are divided: below 1 pictures are more typical and less various.
        top_k: only so many of the likeliest values may be written; 0 is off.
        top_p: only the likeliest values that hold this share together may be written; 1 is off.
        guidance: w of classifier-free guidance of logits, free + w (conditional - free); 1 is off.

    Raises:
        UserError: a number outside its bounds.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0

    def __post_init__(self) -> None:
        within("temperature", self.temperature, 0.001, 1000)
        within("top_k", self.top_k, 0, 2**20)
        within("top_p", self.top_p, 1e-6, 1)
        within("guidance", self.guidance, -1000, 1000)


@dataclass(frozen=True)
class ReconstructConfig:
    """Of a codec by itself, which gives pictures back and draws none of its own: there is nothing to choose."""


SampleConfig = RefineConfig | ExtendConfig | DecodeConfig | ReconstructConfig


@dataclass
class Model:
    """A generator of images ready for use.

    Attributes:
        net: draws, or is a codec that was trained by itself.
        codec: between what ``net`` draws and pictures.
        spec: of the pictures.
        labels: names of the classes in the order of their numbers, () if there are none.
        defaults: how samples are drawn.
        unconditional: whether it also knows pictures without their class or text, as classifier-free guidance needs.
        text: reads texts, where the model draws what they say; there are no classes then.
        prompts: texts that it draws in turn where nobody says what to draw.
    """

    net: Denoiser | Autoregressor | Generator | Codec
    codec: Codec
    spec: ImageSpec
    labels: tuple[str, ...]
    defaults: SampleConfig
    unconditional: bool = True
    text: CaptionTokenizer | None = None
    prompts: tuple[str, ...] = ()
