"""Snapshots: what sampling, editing and serving load. Weights for use, and enough words to rebuild the model.

A folder: ``config.json``, ``model.safetensors``, ``card.md``, and for a model that works on latents or tokens
``codec``, the snapshot of its codec; ``tokenizer.json`` where the model reads texts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from limner.codecs import Identity
from limner.config import from_json, read_json, to_json
from limner.contracts import (
    LATENTS,
    TOKENS,
    Autoregressor,
    Codec,
    DataStats,
    DecodeConfig,
    Denoiser,
    ExtendConfig,
    Generator,
    ImageSpec,
    Model,
    ReconstructConfig,
    RefineConfig,
)
from limner.errors import UserError
from limner.files import expanded, write_json, write_text
from limner.models import (
    PRECONDITIONINGS,
    AutoregressorNetConfig,
    CodecNetConfig,
    DalleConfig,
    GeneratorNetConfig,
    NetConfig,
    Preconditioned,
    PreconditionedFlowMap,
    Row,
)
from limner.tensors import fill, load_tensors, save_tensors
from limner.text import CaptionTokenizer, TextConfig

VERSION = 3
CONFIG, WEIGHTS, CARD, CODEC, TEXT = "config.json", "model.safetensors", "card.md", "codec", "tokenizer.json"


@dataclass(frozen=True)
class DenoiserConfig:
    """All that rebuilding a denoiser takes.

    Attributes:
        net: shape of the network.
        preconditioning: a row of :data:`limner.models.PRECONDITIONINGS`.
        stats: of the training pictures.
        spec: of the pictures.
        labels: names of the classes, () for none.
        sampling: how samples are drawn by default.
        variance: whether the reverse step's variance is learned too.
        jumps: whether it is a flow map.
        unconditional: whether it also knows pictures without their class.
    """

    net: NetConfig
    preconditioning: Row
    stats: DataStats
    spec: ImageSpec
    labels: tuple[str, ...]
    sampling: RefineConfig
    variance: bool = False
    jumps: bool = False
    unconditional: bool = True
    kind: Literal["denoiser"] = "denoiser"
    version: int = VERSION

    def network(self) -> Preconditioned:
        """The denoiser with fresh weights, drawn from the default generator, in channels_last memory."""
        channels = self.spec.channels * (2 if self.variance else 1)
        raw = self.net.build(self.spec, len(self.labels), channels, jumps=self.jumps)
        kind = PreconditionedFlowMap if self.jumps else Preconditioned
        net = kind(raw, PRECONDITIONINGS[self.preconditioning], self.stats.std, self.stats.mean)
        channels_last: Preconditioned = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return channels_last

    def model(self, net: Denoiser) -> Model:
        return Model(net, Identity(), self.spec, self.labels, self.sampling, self.unconditional)


@dataclass(frozen=True)
class GeneratorConfig:
    """All that rebuilding a generator takes.

    Attributes:
        net: shape of the network.
        spec: of the pictures.
        labels: names of the classes, () for none.
        sampling: how samples are drawn by default.
    """

    net: GeneratorNetConfig
    spec: ImageSpec
    labels: tuple[str, ...]
    sampling: DecodeConfig
    kind: Literal["generator"] = "generator"
    version: int = VERSION

    def network(self) -> Generator:
        """The generator with fresh weights, drawn from the default generator, in channels_last memory."""
        net: Generator = self.net.generator(self.spec, len(self.labels)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return net

    def model(self, net: Generator) -> Model:
        return Model(net, Identity(), self.spec, self.labels, self.sampling, unconditional=not self.labels)


@dataclass(frozen=True)
class AutoregressorConfig:
    """All that rebuilding an autoregressive model takes.

    Attributes:
        net: shape of the network.
        spec: of the pictures, or of their tokens.
        labels: names of the classes, () for none.
        sampling: how samples are drawn by default.
        unconditional: whether it also knows pictures without their class or text.
        prompts: texts that it draws in turn by default, () where it reads none.
    """

    net: AutoregressorNetConfig
    spec: ImageSpec
    labels: tuple[str, ...]
    sampling: ExtendConfig
    unconditional: bool = True
    prompts: tuple[str, ...] = ()
    kind: Literal["autoregressor"] = "autoregressor"
    version: int = VERSION

    def network(self) -> Autoregressor:
        """The network with fresh weights, drawn from the default generator."""
        return self.net.autoregressor(self.spec, len(self.labels))

    @property
    def text(self) -> TextConfig | None:
        """How it reads texts, if it does."""
        return self.net.text if isinstance(self.net, DalleConfig) else None

    def model(self, net: Autoregressor) -> Model:
        return Model(net, Identity(), self.spec, self.labels, self.sampling, self.unconditional, prompts=self.prompts)


@dataclass(frozen=True)
class CodecConfig:
    """All that rebuilding a codec takes.

    Attributes:
        net: shape of the network.
        spec: of the pictures.
    """

    net: CodecNetConfig
    spec: ImageSpec
    kind: Literal["codec"] = "codec"
    version: int = VERSION

    def network(self) -> Codec:
        """The codec with fresh weights, drawn from the default generator, in channels_last memory."""
        net: Codec = self.net.codec(self.spec).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return net

    def model(self, net: Codec) -> Model:
        return Model(net, Identity(), self.spec, (), ReconstructConfig())


ModelConfig = DenoiserConfig | AutoregressorConfig | GeneratorConfig | CodecConfig
_CONFIGS: dict[str, type[ModelConfig]] = {
    "denoiser": DenoiserConfig,
    "autoregressor": AutoregressorConfig,
    "generator": GeneratorConfig,
    "codec": CodecConfig,
}


def save_snapshot(
    folder: Path,
    config: ModelConfig,
    weights: dict[str, Tensor],
    card: str,
    codec: tuple[CodecConfig, Codec] | None = None,
    text: CaptionTokenizer | None = None,
) -> None:
    """Write a snapshot; each file appears whole. The configuration comes last: with it the snapshot is complete."""
    if text is not None:
        text.save(folder / TEXT)
    if codec is not None:
        about = "# The codec of the model in the folder above\n"
        save_snapshot(folder / CODEC, codec[0], codec[1].state_dict(), about)
    save_tensors(folder / WEIGHTS, weights)
    write_text(folder / CARD, card)
    save_config(folder, config)


def save_config(folder: Path, config: ModelConfig) -> None:
    """Change what a snapshot says of its weights."""
    write_json(folder / CONFIG, to_json(config))


def read_snapshot(source: str | Path) -> tuple[ModelConfig, nn.Module]:
    """What a run or a snapshot folder holds: all settings, and the network with its weights.

    Raises:
        UserError: there is no snapshot, or it is damaged, cut off or of another version.
    """
    folder = _snapshot_folder(expanded(source))
    plain = read_json(folder / CONFIG)
    if isinstance(plain, dict) and plain.get("version") != VERSION:
        raise UserError(f"{folder / CONFIG} has version {plain.get('version')}; this limner reads version {VERSION}")
    kind = plain.get("kind") if isinstance(plain, dict) else None
    if kind not in _CONFIGS:
        raise UserError(f"{folder / CONFIG} describes a model of the kind {kind!r}, which this limner does not know")
    config = from_json(_CONFIGS[kind], plain, str(folder / CONFIG))
    net = config.network()
    fill(net, load_tensors(folder / WEIGHTS)[0], str(folder / WEIGHTS))
    return config, net


def load(source: str | Path, *, device: str | torch.device = "cpu") -> Model:
    """A model from a run or a snapshot folder, ready for ``sample``.

    Raises:
        UserError: as for :func:`read_snapshot`.
    """
    config, net = read_snapshot(source)
    net.to(device).requires_grad_(False).eval()
    model = model_of(config, net)
    if isinstance(config, AutoregressorConfig) and config.text is not None:
        model.text = _reader(_snapshot_folder(expanded(source)) / TEXT, config.text)
    where = codec_of(source)
    if where is None:
        return model
    if not (where / CONFIG).is_file():
        raise UserError(f"{source} draws what its codec decodes, and {where} is missing; restore it from a copy")
    codec_config, codec = read_snapshot(where)
    if not isinstance(codec_config, CodecConfig) or not isinstance(codec, Codec):
        raise UserError(f"{where} is no codec; restore it from a copy or train the model again")
    return on_latents(model, codec_config, codec.to(device).requires_grad_(False).eval())


def _reader(path: Path, config: TextConfig) -> CaptionTokenizer:
    text = CaptionTokenizer.load(path, config.length)
    if text.vocabulary != config.vocabulary:
        raise UserError(
            f"{path} does not fit the model: it has {text.vocabulary:,} tokens, the model knows "
            f"{config.vocabulary:,}; restore it from a copy or train the model again"
        )
    return text


def codec_of(source: str | Path) -> Path | None:
    """Where the codec of a run's or a snapshot's model lies; None for one that works on pixels."""
    folder = _snapshot_folder(expanded(source))
    plain = read_json(folder / CONFIG)
    spec = plain.get("spec") if isinstance(plain, dict) else None
    return folder / CODEC if isinstance(spec, dict) and spec.get("mode") in (LATENTS, TOKENS) else None


def on_latents(model: Model, config: CodecConfig, codec: Codec) -> Model:
    """A model of latents or tokens with the codec that makes pictures of them."""
    defaults = model.defaults
    if isinstance(defaults, RefineConfig):  # the bounds of pixels are none of latents
        defaults = replace(defaults, clip=False)
    return replace(model, codec=codec, spec=config.spec, defaults=defaults)


def model_of(config: ModelConfig, net: nn.Module) -> Model:
    """The model that ``config`` describes, with this network."""
    match config, net:
        case DenoiserConfig(), Denoiser():
            return config.model(net)
        case AutoregressorConfig(), Autoregressor():
            return config.model(net)
        case GeneratorConfig(), Generator():
            return config.model(net)
        case CodecConfig(), Codec():
            return config.model(net)
    raise TypeError(f"a {type(net).__name__} is not what a {config.kind} is made of")


def is_model(source: str | Path) -> bool:
    """Whether this is a run's or a snapshot's folder, rather than pictures."""
    path = expanded(source)
    return any((path / name).is_file() for name in (CONFIG, f"snapshot/{CONFIG}", "recipe.json"))


def _snapshot_folder(path: Path) -> Path:
    for folder in (path, path / "snapshot"):
        if (folder / CONFIG).is_file():
            return folder
    if (path / "recipe.json").is_file():
        raise UserError(f"the run {path} has no snapshot yet; finish it with: limner train --resume {path}")
    what = "has no snapshot in it" if path.exists() else "does not exist"
    raise UserError(f"{path} {what}; give a run or a snapshot folder")
