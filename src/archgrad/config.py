"""The schema of the configuration: typed sections with defaults, and which keys a choice of parts reads.

How a user's settings become a full configuration is in `settings`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from archgrad.config_section import (
    Count,
    Finite,
    Fraction,
    Length,
    NotNegative,
    Positive,
    Probability,
    Section,
)
from archgrad.hypergradients import HYPERGRADIENTS
from archgrad.methods import METHODS
from archgrad.penalties import PENALTIES
from archgrad.penalties.penalty import settings_of
from archgrad.samplers import SAMPLERS
from archgrad.spaces import SPACES
from archgrad.spaces.space import as_space
from archgrad.stopping.settings import Stopping


class Data(Section):
    """Which images, how they are split and augmented. Lengths in pixels.

    An empty name with a path: what is there is looked at.
    """

    name: str = "digits"
    path: str | None = None
    resize: int | tuple[int, int] | None = None
    validation: Fraction = 0.5
    test: Fraction = 0.2
    split_file: str | None = None
    crop: Length = 4
    flip: bool = True


class Text(Section):
    """How a text is read. window: words between two cuts of back-propagation, in training in the mean.

    slowness: weight of the outputs' mean square change from word to word, in the loss of the weights.
    switch_after: epochs without a better validation loss after which training averages the weights.
    """

    window: Annotated[int, Field(ge=2)] = 35
    slowness: NotNegative = 1e-3
    switch_after: Count = 5


class Named(Section):
    """A part by name, with the part's own settings beside it."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: str

    def settings(self) -> dict[str, Any]:
        """The part's own settings."""
        return dict(self.model_extra or {})


class Search(Section):
    """The loop. order: DARTS steps on the logits first, GDAS on the weights.

    architecture_every: steps on the weights for one on the logits (ProxylessNAS: 5).
    skip_dropout: on skip connections at first; it decays (P-DARTS, see `spaces.skip_dropout`).
    """

    epochs: Count = 50
    batch_size: Annotated[int, Field(ge=2)] = 64
    order: Literal["architecture_first", "weights_first"] = "architecture_first"
    architecture_every: Count = 1
    warmup_epochs: Length = 0
    drop_path: Probability = 0.0
    skip_dropout: Probability = 0.0


class Temperature(Section):
    """τ by epoch, from start at the first to end at the last."""

    schedule: Literal["constant", "linear", "exponential", "cosine"] = "constant"
    start: Positive = 1.0
    end: Positive = 1.0


class Weights(Section):
    """SGD on the operation weights; cosine from learning_rate to final_learning_rate."""

    learning_rate: Positive = 0.025
    final_learning_rate: NotNegative = 0.001
    momentum: Probability = 0.9
    nesterov: bool = False
    weight_decay: NotNegative = 3e-4
    clip: Positive | None = 5.0


class ArchitectureLogits(Section):
    """The optimizer of the logits, and how they begin: N(initial_mean, initial_scale²).

    clip: largest L2 norm of their gradient. relative_clip: the same as a multiple of the logits' norm.
    """

    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: Positive = 3e-4
    betas: tuple[Probability, Probability] = (0.5, 0.999)
    weight_decay: NotNegative = 1e-3
    clip: Positive | None = None
    relative_clip: Positive | None = None
    initial_mean: Finite = 0.0
    initial_scale: NotNegative = 1e-3


class Cost(Section):
    """A cost from the table, or "none", and the form of its penalty (`PENALTIES`) with the settings it has.

    strength: mild, moderate, aggressive, or the nats of loss that a standard deviation of the cost is worth.
    target: with its unit, as in a budget. alpha, beta: None for the form's own.
    """

    name: str = "none"
    form: str = "linear"
    strength: Literal["mild", "moderate", "aggressive"] | NotNegative = 0.0
    target: str | None = None
    alpha: Finite | None = None
    beta: Finite | None = None


class Regularizer(Section):
    """A term on the logits alone, added to the architecture's loss, times strength."""

    name: Literal["none", "exploration_bonus", "decisiveness_penalty", "zero_one"] = "none"
    strength: NotNegative = 0.0


class Look(Section):
    """When a probe looks at the search, every so many epochs, with the probe's own settings beside it."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    every: Count = 1

    def settings(self) -> dict[str, Any]:
        """The probe's own settings."""
        return dict(self.model_extra or {})


class Derive(Section):
    """How logits become an architecture."""

    rule: str = "argmax"


class Selection(Section):
    """What decides after the search, in place of the logits: the supernet, by leaving candidates out.

    tune_epochs: after each decision. measure: what of the validation part counts; see `selection`.
    """

    name: Literal["none", "perturbation"] = "none"
    tune_epochs: Length = 5
    measure: Literal["accuracy", "loss"] = "accuracy"


class Stage(Section):
    """A part of a search in stages. keep: candidates of each choice that it leaves to the next, a number or a
    share; None for all. settings: by section, on top of the configuration's, in this stage.
    """

    keep: Count | Fraction | None = None
    settings: dict[str, Any] = Field(default_factory=dict)


class Train(Section):
    """Training the derived network from scratch; `space`: the builder's settings for it.

    schedule: of the learning rate, by epoch, from learning_rate to final_learning_rate.
    """

    epochs: Count = 100
    batch_size: Annotated[int, Field(ge=2)] = 96
    learning_rate: Positive = 0.025
    schedule: Literal["cosine", "exponential", "linear", "constant"] = "cosine"
    final_learning_rate: NotNegative = 0.0
    momentum: Probability = 0.9
    nesterov: bool = False
    weight_decay: NotNegative = 3e-4
    clip: Positive | None = None
    label_smoothing: Probability = 0.0
    drop_path: Probability = 0.0
    auxiliary_weight: NotNegative = 0.0
    cutout: Length = 0
    space: dict[str, Any] = Field(default_factory=dict)


class Device(Section):
    """Where and how it runs. threads: None leaves PyTorch's choice."""

    name: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = True
    threads: Count | None = None


class Config(Section):
    """The whole configuration.

    budget: cost -> what the derived network may cost, e.g. ``{"macs": "60M±3%"}``; see `budgets.budget`.
    restrict: choice or pattern -> the candidates that it may have; of other choices all.
    stages: searches after one another, each with what the one before left over; see `verbs.staged`.
    diagnostics: probe -> every how many epochs it looks, 0 for never, e.g. ``{"gap": 5}``; see `diagnostics`.
    alarms: alarm -> its thresholds, or false for silence; all others are on with theirs; see `alarms`.
    """

    method: str = "gdas"
    seed: Length = 0
    data: Data = Field(default_factory=Data)
    text: Text = Field(default_factory=Text)
    space: Named = Field(default_factory=lambda: Named(name="nasbench201"))
    restrict: dict[str, list[str]] = Field(default_factory=dict)
    stages: list[Stage] = Field(default_factory=list)
    search: Search = Field(default_factory=Search)
    sampler: Named = Field(default_factory=lambda: Named(name="softmax"))
    controller: Named = Field(default_factory=lambda: Named(name="independent"))
    temperature: Temperature = Field(default_factory=Temperature)
    hypergradient: Named = Field(default_factory=lambda: Named(name="first_order"))
    weights: Weights = Field(default_factory=Weights)
    architecture: ArchitectureLogits = Field(default_factory=ArchitectureLogits)
    cost: Cost = Field(default_factory=Cost)
    budget: dict[str, str] = Field(default_factory=dict)
    regularizer: Regularizer = Field(default_factory=Regularizer)
    diagnostics: dict[str, Length | Look] = Field(default_factory=dict)
    stopping: Stopping = Field(default_factory=Stopping)
    alarms: dict[str, bool | dict[str, Any]] = Field(default_factory=dict)
    derive: Derive = Field(default_factory=Derive)
    selection: Selection = Field(default_factory=Selection)
    train: Train = Field(default_factory=Train)
    device: Device = Field(default_factory=Device)

    @property
    def reads_text(self) -> bool:
        """Whether the space's networks read texts instead of images."""
        return as_space(SPACES[self.space.name]).reads == "text"

    @property
    def probes(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """Probes that are on: name -> (every how many epochs, the probe's own settings)."""
        looks = {
            name: Look(every=g) if isinstance(g, int) else g for name, g in self.diagnostics.items() if g
        }
        return {name: (look.every, look.settings()) for name, look in looks.items()}

    @property
    def learns(self) -> bool:
        """Whether the method trains logits at all."""
        return self.hypergradient.name != "none"

    @property
    def joint(self) -> bool:
        """Whether weights and logits share every step (one level)."""
        return self.learns and getattr(HYPERGRADIENTS[self.hypergradient.name], "joint", False)

    @property
    def uses_temperature(self) -> bool:
        """Whether τ changes anything: a draw, its gradient, or a hypergradient that draws for itself."""
        sampler = SAMPLERS[self.sampler.name]
        if not self.scores:
            return bool(getattr(sampler, "uses_temperature", True))
        hypergradient = HYPERGRADIENTS[self.hypergradient.name]
        return getattr(hypergradient, "uses_temperature", False) or getattr(
            sampler, "log_prob_uses_temperature", False
        )

    @property
    def scores(self) -> bool:
        """Whether the hypergradient needs only the probability of a draw, and no gradient of the sampler."""
        return self.learns and getattr(HYPERGRADIENTS[self.hypergradient.name], "score", False)

    @property
    def penalised(self) -> bool:
        """Whether the architecture's loss has a price on the cost."""
        if not self.learns or self.cost.name == "none":
            return False
        return bool(self.cost.strength) or "strength" not in settings_of(PENALTIES[self.cost.form])

    def document(self) -> dict[str, Any]:
        """Plain values, without the keys that the chosen parts do not use."""
        document = self.model_dump(mode="json")
        for key in unused(self):
            section, _, name = key.partition(".")
            document[section].pop(name, None)
        if not self.reads_text:
            del document["text"]
        for key in ("budget", "diagnostics", "restrict", "alarms"):
            if not document[key]:
                del document[key]
        if not self.stages and "stages" not in METHODS[self.method].settings:
            del document["stages"]
        if self.selection.name == "none":
            del document["selection"]
        if not self.stopping.rules:
            del document["stopping"]
        return document


_OF_IMAGES = {
    "data": ("resize", "validation", "test", "split_file", "crop", "flip"),
    "search": ("drop_path", "skip_dropout"),
    "train": (
        "schedule",
        "final_learning_rate",
        "momentum",
        "nesterov",
        "label_smoothing",
        "drop_path",
        "auxiliary_weight",
        "cutout",
    ),
    "device": ("channels_last",),
}
_OF_TEXT = {"text": tuple(Text.model_fields)}


def unused(config: Config) -> dict[str, str]:
    """Keys that the chosen parts do not read, each with the reason."""
    others = _OF_IMAGES if config.reads_text else _OF_TEXT
    why = f"the space {config.space.name!r} reads " + (
        "texts, whose parts and training have no such setting" if config.reads_text else "images, and no text"
    )
    reasons = {f"{section}.{key}": why for section, keys in others.items() for key in keys}
    if not config.uses_temperature:
        for key in Temperature.model_fields:
            reasons[f"temperature.{key}"] = (
                f"with {config.hypergradient.name!r}, {config.sampler.name!r} has no temperature"
                if config.scores
                else f"the sampler {config.sampler.name!r} has no temperature"
            )
    elif config.temperature.schedule == "constant":
        reasons["temperature.end"] = "a constant temperature has no end; set temperature.schedule"
    if config.train.schedule == "constant":
        reasons["train.final_learning_rate"] = "a constant learning rate has no end; set train.schedule"
    if config.data.split_file is not None:
        for key in ("validation", "test"):
            reasons[f"data.{key}"] = "data.split_file says which image is in which part"
    if not config.learns:
        for section, fields in (
            ("architecture", ArchitectureLogits.model_fields),
            ("regularizer", Regularizer.model_fields),
            ("controller", ["name", *config.controller.settings()]),
        ):
            for key in fields:
                reasons[f"{section}.{key}"] = f"the method {config.method!r} does not train the logits"
        for key in ("warmup_epochs", "architecture_every"):
            reasons[f"search.{key}"] = "the logits are never trained"
    elif config.architecture.optimizer == "sgd":
        reasons["architecture.betas"] = "sgd has no betas"
    if not config.learns or config.joint:
        reasons["search.order"] = "weights and logits do not alternate"
    reasons |= _unused_cost(config)
    if config.scores:
        for key in config.sampler.settings():
            reasons[f"sampler.{key}"] = (
                f"it shapes the sampler's gradient, which {config.hypergradient.name!r} does not use"
            )
    if config.selection.name == "none":
        for key in ("tune_epochs", "measure"):
            reasons[f"selection.{key}"] = "nothing is selected after the search; set selection.name"
    if not config.stopping.rules:
        reasons["stopping.combine"] = "there is no rule; set stopping.rules, e.g. stopping.rules.stability={}"
    if config.regularizer.name == "none":
        reasons["regularizer.strength"] = "no term is chosen; set regularizer.name"
    return reasons


def _unused_cost(config: Config) -> dict[str, str]:
    """Keys of the section ``cost`` that nothing reads, each with the reason."""
    keys = [f"cost.{key}" for key in Cost.model_fields if key != "name"]
    if config.cost.name == "none":
        return dict.fromkeys(keys, "no cost is chosen; set cost.name")
    if not config.learns:
        return dict.fromkeys(keys, "the logits are not trained, so a penalty has no effect")
    form, read = config.cost.form, settings_of(PENALTIES[config.cost.form])
    why = f"the form {form!r} has no such setting; it has {', '.join(read)}"
    return {key: why for key in keys if key != "cost.form" and key.removeprefix("cost.") not in read}
