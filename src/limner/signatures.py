"""What each command takes, as typed signatures, and what it then calls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from limner import commands, exploring, judging
from limner.began import BEGAN
from limner.commands import Outcome
from limner.comparison import JUDGED
from limner.contracts import Precision
from limner.data import DataConfig
from limner.demo import demo as run_demo
from limner.errors import UserError
from limner.recipes import AnyRecipe, Size
from limner.recipes import recipe as named_recipe


@dataclass(frozen=True)
class Recipes:
    """What can be trained, and what it costs.

    Attributes:
        recipe: tell all of this one; a line for each of all by default.
        json: print one JSON object, for programs.
    """

    recipe: Positional[str | None] = None
    json: bool = False

    def run(self) -> Outcome:
        return commands.recipes() if self.recipe is None else commands.recipe_costs(self.recipe)


@dataclass(frozen=True)
class Train:
    """Train a generator on your pictures. Ctrl-C saves; --resume goes on.

    Attributes:
        recipe: what to train; "limner recipes" lists them.
        data: the pictures: --data SOURCE, where SOURCE is a folder (class = sub-folder), a .zip, a .tar or shards of
            it, an .npz, an idx .gz, DICOM files, hf:NAME, a catalogue name such as mnist, or builtin:glyphs,
            builtin:shapes.
        out: the run's folder; runs/RECIPE-DATA-NUMBER by default.
        minutes: wall-clock budget, set-up included; 5 if neither this nor --images is given.
        images: budget in images seen.
        size: tiny, small, base or large; auto takes the one that suits the minutes.
        resume: go on with this run; all other settings come from it, but for --data SOURCE, which is where its pictures
            are now.
        json: print one JSON object, for programs.
        settings: everything else, by name.
    """

    settings: Annotated[AnyRecipe, arg(name="")]
    data: DataConfig
    recipe: Positional[str] = "flow"
    out: Path | None = None
    minutes: float | None = None
    images: int | None = None
    size: Size | Literal["auto"] = "auto"
    resume: Path | None = None
    json: bool = False

    def run(self) -> Outcome:
        if self.resume is not None:
            return commands.resume(self.resume, self.data.source)
        if self.recipe != self.settings.recipe:  # all settings' defaults are the recipe's, so it is wanted before them
            named_recipe(self.recipe)  # which may be unknown
            raise UserError(f"the recipe comes first: limner train {self.recipe} --data …")
        return commands.train(self.settings, self.data, self.out, self.minutes, self.images, BEGAN)


@dataclass(frozen=True)
class Ema:
    """Choose how widely a run's weights are averaged, after it.

    Attributes:
        run_folder: of a finished run that was trained with --training.ema-profiles 0.05 0.1.
        width: standard deviation of the average's profile as a share of the training (EDM2's sigma_rel).
        out: the new snapshot's folder; RUN/snapshot-ema-WIDTH by default.
        json: print one JSON object, for programs.
    """

    run_folder: Annotated[Positional[Path], arg(name="run")]
    width: float = 0.1
    out: Path | None = None
    json: bool = False

    def run(self) -> Outcome:
        return commands.ema(self.run_folder, self.width, self.out)


@dataclass(frozen=True)
class Sample:
    """Draw pictures from a model.

    Attributes:
        model: a run or a snapshot folder.
        n: how many.
        seed: picture i depends on seed and i alone, not on how many are drawn.
        label: a class by name or number; all classes in turn by default.
        prompt: of models that read texts, what the pictures are to show: --prompt "a red circle on white"; by default
            captions that the model remembers of its training, in turn.
        steps: of the solver; more are slower and finer.
        solver: euler, heun, ddim, ddpm, dpmpp_2m, dpmpp_2m_sde or unipc; jump for models of few steps.
        guidance: how strongly to steer to the class or the text; 1 is off.
        truncation: of generators: below 1 pictures are more typical and less various.
        cut: of generators: codes are drawn from a normal distribution cut at so many standard deviations.
        temperature: of models that write: below 1 pictures are more typical and less various.
        top_k: of models that write: only so many of the likeliest values; 0 for all.
        top_p: of models that write: only the likeliest values that hold this share together; 1 for all.
        guide: steer away from this worse model of the same pictures instead (autoguidance); a run or a snapshot.
        size: height and width, if not those that the model was made for.
        memory: of models that write: GiB for what is kept of pictures while they are written, of which as many are
            written together as fit; half of what is free by default.
        precision: of the network's products; bfloat16 is faster where a machine has it, and changes pictures a little.
        out: a .png for one grid, or a folder for single files, which keep 16 bits where the model has them.
        overwrite: replace the file at --out, or in a folder the pictures of an earlier draw and nothing else.
        json: print one JSON object, for programs.
    """

    model: Positional[Path]
    n: Annotated[int, arg(aliases=["-n"])] = 64
    seed: int = 0
    label: str | None = None
    prompt: str | None = None
    steps: int | None = None
    solver: str | None = None
    guidance: float | None = None
    truncation: float | None = None
    cut: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    guide: Path | None = None
    size: tuple[int, int] | None = None
    memory: float | None = None
    precision: Precision = "float32"
    out: Path = Path("samples.png")
    overwrite: bool = False
    json: bool = False

    def run(self) -> Outcome:
        return commands.sample(
            self.model,
            self.n,
            self.seed,
            self.label,
            self.prompt,
            self.steps,
            self.solver,
            self.guidance,
            self.truncation,
            self.cut,
            self.temperature,
            self.top_k,
            self.top_p,
            self.guide,
            self.size,
            self.memory,
            self.precision,
            self.out,
            self.overwrite,
        )


@dataclass(frozen=True)
class Interpolate:
    """Walk from one picture of a generator to another, through the codes between them.

    Attributes:
        model: a run or a snapshot folder, of a GAN or another model that decodes codes.
        between: numbers of two or more pictures, as limner sample numbers them.
        frames: from one to the next.
        how: slerp along the sphere of codes, lerp straight, or w straight between the styles they are mapped to.
        label: a class by name or number; the first by default.
        seed: of the pictures.
        truncation: below 1 pictures are more typical and less various.
        out: a .png with a row for each pair, or a .gif that moves.
        overwrite: replace the file at --out.
        json: print one JSON object, for programs.
    """

    model: Positional[Path]
    between: tuple[int, ...] = (0, 1, 2, 3)
    frames: int = 9
    how: Literal["slerp", "lerp", "w"] = "slerp"
    label: str | None = None
    seed: int = 0
    truncation: float | None = None
    out: Path = Path("walk.png")
    overwrite: bool = False
    json: bool = False

    def run(self) -> Outcome:
        return exploring.interpolate(
            self.model,
            self.between,
            self.frames,
            self.how,
            self.label,
            self.seed,
            self.truncation,
            self.out,
            self.overwrite,
        )


@dataclass(frozen=True)
class Invert:
    """Find the codes from which a generator draws given pictures.

    Attributes:
        model: a run or a snapshot folder, of a GAN or another model that decodes codes.
        reference: the pictures: --reference SOURCE.
        n: how many of them, evenly spaced.
        space: w reaches more pictures, z stays with likelier ones.
        steps: of the search.
        seed: of where it begins.
        out: a .png, each picture above what its code draws; the codes lie beside it, .safetensors.
        overwrite: replace the files at --out.
        json: print one JSON object, for programs.
    """

    model: Positional[Path]
    reference: DataConfig = DataConfig("")  # noqa: RUF009 - frozen
    n: Annotated[int, arg(aliases=["-n"])] = 8
    space: Literal["w", "z"] = "w"
    steps: int = 300
    seed: int = 0
    out: Path = Path("inverted.png")
    overwrite: bool = False
    json: bool = False

    def run(self) -> Outcome:
        return exploring.invert(
            self.model, self.reference, self.n, self.space, self.steps, self.seed, self.out, self.overwrite
        )


@dataclass(frozen=True)
class Complete:
    """Write a part of real pictures anew, by a model that writes pixel by pixel or token by token; the rest stays.

    Attributes:
        model: a run or a snapshot folder, of pixelcnn++ or another model that writes.
        reference: the pictures: --reference SOURCE.
        n: how many of them, evenly spaced.
        ways: in which each is completed.
        known: share of the rows, from above, that stays.
        mask: a picture of the same size instead, white where pixels are to be written.
        label: class of all pictures, a number or a name; by default their own, or any where they have none.
        prompt: of models that read texts, what the pictures show; by default their own captions, or anything.
        temperature: below 1 pictures are more typical and less various.
        top_k: only so many of the likeliest values; 0 for all.
        top_p: only the likeliest values that hold this share together; 1 for all.
        guidance: how strongly to steer to the class or the text; 1 is off.
        memory: GiB for what is kept of pictures while they are written, as for limner sample.
        seed: of what is written.
        out: a .png, a row for each picture: what is known, the ways, and the picture itself.
        overwrite: replace the file at --out.
        json: print one JSON object, for programs.
    """

    model: Positional[Path]
    reference: DataConfig = DataConfig("")  # noqa: RUF009 - frozen
    n: Annotated[int, arg(aliases=["-n"])] = 8
    ways: int = 6
    known: float = 0.5
    mask: Path | None = None
    label: str | None = None
    prompt: str | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    guidance: float | None = None
    memory: float | None = None
    seed: int = 0
    out: Path = Path("completed.png")
    overwrite: bool = False
    json: bool = False

    def run(self) -> Outcome:
        return exploring.complete(
            self.model,
            self.reference,
            self.n,
            self.ways,
            self.known,
            self.mask,
            self.label,
            self.prompt,
            self.temperature,
            self.top_k,
            self.top_p,
            self.guidance,
            self.memory,
            self.seed,
            self.out,
            self.overwrite,
        )


@dataclass(frozen=True)
class Reconstruct:
    """Show what a codec gives back of real pictures.

    Attributes:
        model: a run or a snapshot folder of a codec: kl-codec, vq-codec or palette.
        reference: the pictures: --reference SOURCE.
        n: how many of them, evenly spaced.
        out: a .png, each picture above what comes back of it.
        overwrite: replace the file at --out.
        json: print one JSON object, for programs.
    """

    model: Positional[Path]
    reference: DataConfig = DataConfig("")  # noqa: RUF009 - frozen
    n: Annotated[int, arg(aliases=["-n"])] = 32
    out: Path = Path("reconstructed.png")
    overwrite: bool = False
    json: bool = False

    def run(self) -> Outcome:
        return exploring.reconstruct(self.model, self.reference, self.n, self.out, self.overwrite)


@dataclass(frozen=True)
class Directions:
    """Find ways in which a generator's pictures change: a row of pictures for each.

    Attributes:
        model: a run or a snapshot folder, of a GAN or another model that decodes codes.
        count: so many directions along which the layers change most (SeFa).
        kind: instead, the one direction to this class of --extractor.
        extractor: a network that names classes: lenet, resnet-cifar, squeezenet …
        n: pictures that --kind looks at.
        number: of the picture that is moved, as limner sample numbers them.
        reach: how far, in standard deviations.
        frames: of each direction.
        label: a class by name or number; the first by default.
        seed: of the pictures.
        out: a .png.
        overwrite: replace the file at --out.
        json: print one JSON object, for programs.
    """

    model: Positional[Path]
    count: int = 5
    kind: str | None = None
    extractor: str = "lenet"
    n: Annotated[int, arg(aliases=["-n"])] = 1000
    number: int = 0
    reach: float = 3.0
    frames: int = 9
    label: str | None = None
    seed: int = 0
    out: Path = Path("directions.png")
    overwrite: bool = False
    json: bool = False

    def run(self) -> Outcome:
        return exploring.directions(
            self.model,
            self.count,
            self.kind,
            self.extractor,
            self.n,
            self.number,
            self.reach,
            self.frames,
            self.label,
            self.seed,
            self.out,
            self.overwrite,
        )


@dataclass(frozen=True)
class Evaluate:
    """Judge a model's samples, or a set of pictures, against real ones.

    Attributes:
        images: a run, a snapshot, or pictures (a folder, a .zip …).
        reference: the real pictures: --reference SOURCE.
        metrics: fd, kid, precision, recall, density, coverage, originality, inception_score; all but the last by
            default, and that one over inception.
        extractor: what looks at the pictures: wavelets, pixels, lenet=FILE, resnet-cifar=FILE, squeezenet=FILE,
            inception (or inception=FILE), dinov2=FOLDER, clip=FOLDER, or a function of yours, package.module:function.
        n: how many pictures to judge; all, or 2,000 samples of a model, by default.
        seed: of the samples and all choices.
        baseline: also score real held-out pictures.
        per_class: also measure within each class.
        json: print one JSON object, for programs.
    """

    images: Positional[str]
    reference: DataConfig = DataConfig("")  # noqa: RUF009 - frozen
    metrics: tuple[str, ...] = ()
    extractor: str = "wavelets"
    n: Annotated[int | None, arg(aliases=["-n"])] = None
    seed: int = 0
    baseline: bool = True
    per_class: bool = False
    json: bool = False

    def run(self) -> Outcome:
        return judging.evaluate(
            self.images, self.reference, self.metrics, self.extractor, self.n, self.seed, self.baseline, self.per_class
        )


@dataclass(frozen=True)
class Compare:
    """Judge runs side by side, on the same seeds: one table, one page.

    Attributes:
        runs: two or more runs, snapshots, or sets of pictures (a folder, a .zip …).
        reference: the real pictures: --reference SOURCE.
        out: folder of the page, compare.html.
        n: pictures of each; fewer where a set of pictures has fewer.
        seed: of the samples and all choices.
        extractors: what looks at the pictures, as for limner evaluate; several show whether they agree.
        metrics: as for limner evaluate.
        per_class: also measure within each class.
        overwrite: replace the page at --out.
        json: print one JSON object, for programs.
    """

    runs: Positional[tuple[str, ...]]
    reference: DataConfig = DataConfig("")  # noqa: RUF009 - frozen
    out: Path = Path("comparison")
    n: Annotated[int, arg(aliases=["-n"])] = JUDGED
    seed: int = 0
    extractors: tuple[str, ...] = ("wavelets",)
    metrics: tuple[str, ...] = ()
    per_class: bool = False
    overwrite: bool = False
    json: bool = False

    def run(self) -> Outcome:
        return judging.compare(
            self.runs,
            self.reference,
            self.out,
            self.n,
            self.seed,
            self.extractors,
            self.metrics,
            self.per_class,
            self.overwrite,
        )


@dataclass(frozen=True)
class Likelihood:
    """How many bits a model needs for real pictures, or nats for their tokens; pictures that it was not trained on say
    most.

    Attributes:
        model: a run or a snapshot folder.
        reference: the real pictures: --reference SOURCE.
        n: how many of them, evenly spaced.
        seed: of the noise.
        steps: of the ODE of a model that refines noise; the estimate is refused where they are too few.
        codes: for each picture, of a variational autoencoder; the bound is the nearer the more there are.
        json: print one JSON object, for programs.
    """

    model: Positional[Path]
    reference: DataConfig = DataConfig("")  # noqa: RUF009 - frozen
    n: Annotated[int, arg(aliases=["-n"])] = 200
    seed: int = 0
    steps: int = 32
    codes: int = 64
    json: bool = False

    def run(self) -> Outcome:
        return judging.likelihood(self.model, self.reference, self.n, self.seed, self.steps, self.codes)


@dataclass(frozen=True)
class Probe:
    """How well classes can be read off what each layer of a transformer that writes makes of pictures.

    Attributes:
        model: a run or a snapshot folder, of imagegpt, vqgpt or var.
        data: the pictures, with classes: --data SOURCE.
        n: how many of them, of which a fifth is held out.
        seed: of both choices.
        penalty: of the classifier's weights, squared.
        json: print one JSON object, for programs.
    """

    model: Positional[Path]
    data: DataConfig = DataConfig("")  # noqa: RUF009 - frozen
    n: Annotated[int, arg(aliases=["-n"])] = 2000
    seed: int = 0
    penalty: float = 1e-3
    json: bool = False

    def run(self) -> Outcome:
        return exploring.probe(self.model, self.data, self.n, self.seed, self.penalty)


@dataclass(frozen=True)
class Demo:
    """Train a generator of letters from nothing, draw, judge, and write a report. Needs no network and no pictures.

    Attributes:
        minutes: of training.
        out: the run's folder; runs/demo by default, or runs/demo-NUMBER where that exists.
        json: print one JSON object, for programs.
    """

    minutes: float = 2.5
    out: Path | None = None
    json: bool = False

    def run(self) -> Outcome:
        return run_demo(self.minutes, self.out, BEGAN)


COMMANDS: dict[str, type[Any]] = {
    "recipes": Recipes,
    "train": Train,
    "ema": Ema,
    "sample": Sample,
    "interpolate": Interpolate,
    "invert": Invert,
    "directions": Directions,
    "complete": Complete,
    "reconstruct": Reconstruct,
    "evaluate": Evaluate,
    "likelihood": Likelihood,
    "compare": Compare,
    "probe": Probe,
    "demo": Demo,
}
