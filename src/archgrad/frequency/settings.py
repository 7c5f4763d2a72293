"""Settings of a channel selection, and its whole configuration: data, training, device and seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from archgrad.config import Config, Train
from archgrad.config_problems import check
from archgrad.config_section import Count, Fraction, NotNegative, Positive, Section
from archgrad.datasets.images import ImageData
from archgrad.errors import ConfigError
from archgrad.frequency.block_dct import default_stride
from archgrad.parts import data_size
from archgrad.settings import resolve
from archgrad.spaces.space import Shape
from archgrad.table import nearest


class Frequency(Section):
    """The section ``frequency``.

    stride: pixels from one block to the next; None chooses by the size of the images.
    width, blocks: of the residual network behind the transform, in every network that is compared.
    strength: nats that an open gate costs (`GatePenalty`). warmup: share of the epochs in which it grows.
    temperature, open_at_first, noise_in_evaluation: see `ChannelGates`.
    """

    stride: Literal[8, 4, 2] | None = None
    width: Count = 16
    blocks: Count = 1
    strength: NotNegative = 0.03
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.2
    temperature: Positive = 1.0
    open_at_first: Fraction = 0.9
    noise_in_evaluation: bool = False

    def gates(self) -> dict[str, Any]:
        """The settings of `ChannelGates`."""
        return self.model_dump(include={"temperature", "open_at_first", "noise_in_evaluation"})


class Selection(NamedTuple):
    """A configuration without gaps, and a sentence for each size that a rule chose."""

    config: Config
    frequency: Frequency
    notes: tuple[str, ...]
    own_test: bool

    def document(self) -> dict[str, Any]:
        """Plain values of the sections that count; given back, they make the same configuration."""
        config = self.config.model_dump(mode="json", include=set(_SECTIONS))
        for key in _unused(self.own_test):
            section, _, name = key.partition(".")
            config[section].pop(name)
        return {**config, "frequency": self.frequency.model_dump(mode="json")}


_SECTIONS = ("seed", "data", "train", "device")
# Of a cell space; the networks of this verb have neither cells nor auxiliary heads.
_NOT_TRAINED = ("space", "drop_path", "auxiliary_weight")


def _unused(own_test: bool) -> dict[str, str]:
    """Keys that a channel selection does not read, each with the reason."""
    reasons = {f"train.{key}": "the networks of a channel selection have none" for key in _NOT_TRAINED}
    reasons["data.validation"] = "gates and weights learn from the same images"
    reasons["data.split_file"] = "gates and weights learn from the same images; nothing is split but the test"
    if own_test:
        reasons["data.test"] = "these data have test images of their own, so none are held out"
    return reasons


def resolve_selection(given: Mapping[str, Any], data: ImageData) -> Selection:
    """The full configuration for these images; sizes that are not given follow `archgrad.settings`.

    given: keys of the sections seed, data, train, device and frequency.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    problems = problems_of(given, data.test is not None)
    if problems:
        raise ConfigError(problems)
    frequency = frequency_of(given)
    if frequency.stride is None:
        stride = default_stride(data.shape)
        frequency = frequency.model_copy(update={"stride": stride})
        notes = [f"frequency.stride = {stride}: {_stride_reason(data.shape, stride)}"]
    else:
        notes = []
    resolved = resolve(
        {key: given[key] for key in _SECTIONS if key in given}, data_size(data, check_of(given))
    )
    train = resolved.config.train.model_copy(update={k: Train().model_dump()[k] for k in _NOT_TRAINED})
    config = resolved.config.model_copy(update={"train": train})
    ours = tuple(f"{section}." for section in ("data", "train", "device"))
    unused = _unused(data.test is not None)
    for note in resolved.notes:
        key = note.split(" ")[0]
        if key.startswith(ours) and not key.startswith("train.space") and key not in unused:
            notes.append(note)
    return Selection(config, frequency, tuple(notes), data.test is not None)


def _stride_reason(shape: Shape, stride: int) -> str:
    if stride == 8:
        return "blocks side by side, as in JPEG"
    return f"blocks overlap, as {shape[1]}×{shape[2]} pixels make few blocks of 8×8"


def check_of(given: Mapping[str, Any]) -> Config:
    """The sections that every configuration has, validated before any data is read."""
    return check({key: given[key] for key in _SECTIONS if key in given})


def frequency_of(given: Mapping[str, Any]) -> Frequency:
    """The section ``frequency``, validated.

    Raises:
        ConfigError: unknown keys, wrong types.
    """
    section = given.get("frequency", {})
    if not isinstance(section, Mapping):
        raise ConfigError([f"frequency: a section; write frequency.KEY=VALUE, got {section!r}"])
    try:
        return Frequency.model_validate(section)
    except ValidationError as error:
        known = list(Frequency.model_fields)
        lines = {}
        for detail in error.errors():
            key = str(detail["loc"][0])
            if detail["type"] == "extra_forbidden":
                lines[key] = f"frequency.{key}: unknown key{nearest(key, known)}; known: {', '.join(known)}"
            else:
                text = str(detail["msg"]).lower().removeprefix("input ")
                lines[key] = f"frequency.{key}: {text}, got {detail['input']!r}"
        raise ConfigError(list(lines.values())) from None


def problems_of(given: Mapping[str, Any], own_test: bool) -> list[str]:
    """Sections and keys that a channel selection does not read."""
    sections = [*_SECTIONS, "frequency"]
    problems = [
        f"{key}: a channel selection has no such section{nearest(str(key), sections)}; it reads "
        f"{', '.join(sections)}"
        for key in given
        if key not in sections
    ]
    for key, reason in _unused(own_test).items():
        section, _, name = key.partition(".")
        if isinstance(given.get(section), Mapping) and name in given[section]:
            problems.append(f"{key}: {reason}")
    return problems
