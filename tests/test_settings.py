"""Configuration: layers, sizes by rule, and every problem reported at once."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import yaml

from archgrad.config import Config, unused
from archgrad.config_layers import dotted, merge, overrides, read
from archgrad.config_problems import check
from archgrad.errors import ConfigError, UserError
from archgrad.methods import METHODS
from archgrad.parts import data_size
from archgrad.settings import DataSize, published_share, resolve

DIGITS = DataSize("digits", 1437, (1, 8, 8))
CIFAR10 = DataSize("cifar10", 50_000, (3, 32, 32), True, mirror=True)


def problems(given, size=DIGITS):
    with pytest.raises(ConfigError) as error:
        resolve(given, size)
    assert str(error.value).startswith(f"{len(error.value.problems)} problem(s)")
    return error.value.problems


def only(given, size=DIGITS):
    found = problems(given, size)
    assert len(found) == 1, found
    return found[0]


def value_at(document, key):
    for part in key.split("."):
        document = document[part]
    return document


# ---- from weakest to strongest


def test_the_user_beats_the_rule_beats_the_preset_beats_the_default():
    default, preset = Config().search.epochs, METHODS["gdas"].settings["search"]["epochs"]
    assert (default, preset) == (50, 250)
    assert resolve({"method": "gdas"}, CIFAR10).config.search.epochs == 250
    ruled = resolve({"method": "gdas"}, DIGITS)
    assert ruled.config.search.epochs not in (50, 250)
    assert any(note.startswith(f"search.epochs = {ruled.config.search.epochs}:") for note in ruled.notes)
    told = resolve({"method": "gdas", "search": {"epochs": 7}}, DIGITS)
    assert told.config.search.epochs == 7
    assert not any(note.startswith("search.epochs") for note in told.notes)


def test_every_size_chosen_by_rule_is_noted():
    """What differs from the published settings for small data has a note (or is off at this size)."""
    small = resolve({"method": "darts", "space": {"name": "darts"}}, DIGITS)
    noted = {note.split(" = ")[0] for note in small.notes}
    published = resolve({"method": "darts", "space": {"name": "darts"}}, CIFAR10).config.model_dump()
    here = small.config.model_dump()
    differ = {k for k in dotted(published) if value_at(published, k) != value_at(here, k)}
    assert {"search.epochs", "space.channels", "train.epochs", "train.space.cells"} <= differ
    # turned off rather than sized: regularisers of a 600-epoch training, and mirror images of digits
    off = {"data.flip", "train.cutout", "train.auxiliary_weight", "train.drop_path", "train.space.auxiliary"}
    assert differ - off <= noted


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("space", ["darts", "nasbench201"])
@pytest.mark.parametrize("size", [DIGITS, DataSize("tiny", 60, (3, 12, 12), True)])
def test_every_method_works_in_every_space_and_its_document_resolves_to_itself(method, space, size):
    resolved = resolve({"method": method, "space": {"name": space}}, size)
    document = resolved.document()
    assert yaml.safe_load(yaml.safe_dump(document)) == document
    again = resolve(document, size)
    assert again.config == resolved.config
    assert again.document() == document
    assert again.notes == ()


def test_the_document_leaves_out_what_nothing_reads():
    document = resolve({"method": "random"}, CIFAR10).document()
    assert "test" not in document["data"]
    assert document["temperature"] == {}
    assert document["architecture"] == {}
    assert "order" not in document["search"]
    assert "strength" not in document["cost"]


def test_settings_of_the_space_that_change_its_choices_hold_for_training_too():
    config = resolve({"space": {"name": "nasbench201", "nodes": 3, "channels": 5}}, DIGITS).config
    assert config.train.space["nodes"] == 3
    assert config.train.space["channels"] != 5
    text = only({"space": {"name": "nasbench201", "nodes": 3}, "train": {"space": {"nodes": 4}}})
    assert "other choices" in text


def test_a_part_named_anew_drops_the_settings_of_the_part_it_replaces():
    assert merge(
        {"hypergradient": {"name": "unrolled", "epsilon": 0.1}}, {"hypergradient": {"name": "x"}}
    ) == {"hypergradient": {"name": "x"}}
    assert merge({"data": {"name": "a", "crop": 1}}, {"data": {"name": "b"}}) == {
        "data": {"name": "b", "crop": 1}
    }
    layer = {"a": {"x": 1}}
    merge(layer, {"a": {"x": 2}})["a"]["x"] = 3
    assert layer == {"a": {"x": 1}}


# ---- all problems at once


def test_all_kinds_of_problem_are_reported_together_with_the_nearest_names():
    found = problems(
        {
            "method": "dartz",
            "serch": {"epochs": 3},
            "search": {"epoch": 5, "batch_size": "many"},
            "weights": {"learning_rate": -1.0, "clip": float("nan")},
            "sampler": {"name": "softmx"},
            "space": {"name": "nasbench201", "chanels": 3},
            "cost": {"name": "macs", "strength": "strong"},
        }
    )
    text = "\n".join(found)
    assert len(found) == 9, text
    for part in (
        "method: unknown 'dartz' - did you mean 'darts'?",
        "serch: unknown key - did you mean 'search'?",
        "search.epoch: unknown key - did you mean 'epochs'?",
        "search.batch_size: should be a valid integer, got 'many'",
        "weights.learning_rate: should be greater than 0, got -1.0",
        "weights.clip: should be a finite number, got nan",
        "sampler.name: unknown 'softmx' - did you mean 'softmax'?",
        "space: unknown setting 'chanels' - did you mean 'channels'?",
        "cost.strength: should be 'mild', 'moderate' or 'aggressive' or",
    ):
        assert part in text, part


def test_unused_keys_and_wrong_types_come_together():
    found = problems({"method": "random", "search": {"order": "weights_first", "epochs": 1.5}, "train": 5})
    assert len(found) == 3
    assert any(p.startswith("search.order: weights and logits do not alternate") for p in found)
    assert any(p.startswith("train: a section with keys epochs,") for p in found)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"method": "random", "temperature": {"start": 2.0}}, "temperature.start"),
        ({"method": "darts", "temperature": {"end": 2.0}}, "temperature.end"),
        ({"method": "random", "architecture": {"learning_rate": 0.1}}, "architecture.learning_rate"),
        ({"method": "random", "architecture": {"initial_mean": 0.1}}, "architecture.initial_mean"),
        ({"method": "random", "search": {"warmup_epochs": 1}}, "search.warmup_epochs"),
        ({"method": "random", "cost": {"name": "macs", "strength": "mild"}}, "cost.strength"),
        ({"method": "darts", "cost": {"strength": "mild"}}, "cost.strength"),
        ({"method": "snas", "search": {"order": "weights_first"}}, "search.order"),
        ({"architecture": {"optimizer": "sgd", "betas": [0.5, 0.9]}}, "architecture.betas"),
        ({"data": {"split_file": "x.npz", "validation": 0.3}}, "data.validation"),
        ({"data": {"split_file": "x.npz", "test": 0.3}}, "data.test"),
        ({"search": {"drop_path": 0.2}}, "search.drop_path"),
        ({"train": {"drop_path": 0.2}}, "train.drop_path"),
        ({"train": {"auxiliary_weight": 0.4}}, "train.auxiliary_weight"),
        ({"space": {"name": "darts"}, "train": {"auxiliary_weight": 0.4}}, "train.auxiliary_weight"),
        ({"space": {"name": "darts"}, "train": {"space": {"auxiliary": True}}}, "train.space"),
        ({"space": {"name": "darts", "auxiliary": True}}, "space"),
        ({"weights": {"momentum": 0.0, "nesterov": True}}, "weights.nesterov"),
        ({"train": {"momentum": 0.0}}, "train.nesterov"),
        ({"search": {"epochs": 3, "warmup_epochs": 3}}, "search.warmup_epochs"),
        ({"search": {"warmup_epochs": 10_000}}, "search.warmup_epochs"),
        ({"sampler": {"name": "softmax", "tau": 1.0}}, "sampler.tau"),
        ({"hypergradient": {"name": "unrolled", "epsilon": 0.0}}, "hypergradient.epsilon"),
        ({"hypergradient": {"name": "unrolled", "epsilon": "small"}}, "hypergradient.epsilon"),
        ({"space": {"name": "nasbench201", "channels": -4}}, "space.channels"),
        ({"space": {"name": "nasbench201", "cells": 1.5}}, "space.cells"),
        ({"space": {"name": "nasbench201", "affine": "perhaps"}}, "space.affine"),
        ({"train": {"space": {"channels": 0}}}, "train.space.channels"),
    ],
)
def test_a_key_that_would_do_nothing_or_break_is_one_problem(given, key):
    assert only(given).startswith(f"{key}:")


def test_a_test_share_is_refused_where_the_data_have_test_images():
    assert only({"data": {"test": 0.3}}, CIFAR10).startswith("data.test: cifar10 has test images")
    assert resolve({"data": {"test": 0.3}}, DIGITS).config.data.test == 0.3


def test_a_key_that_does_nothing_by_preset_is_dropped_without_fuss():
    """SNAS drops paths; NAS-Bench-201 has none to drop. The user asked for neither."""
    resolved = resolve({"method": "snas", "space": {"name": "nasbench201"}}, CIFAR10)
    assert resolved.config.search.drop_path == 0.0
    assert any(note.startswith("search.drop_path = 0") for note in resolved.notes)
    assert resolve({"method": "snas", "space": {"name": "darts"}}, CIFAR10).config.search.drop_path == 0.3


def test_every_reason_names_a_key_of_the_schema():
    for given in ({"method": "random"}, {"method": "snas"}, {"method": "darts"}):
        for key in unused(check(given)):
            section, _, name = key.partition(".")
            assert name in type(getattr(Config(), section)).model_fields


# ---- files and overrides


def test_overrides_nest_and_read_numbers():
    assert overrides(["a.b=1", "a.c=1e-3", "d=x", "e.f=[1, 2]", "g.h=null", "i.j=a=b"]) == {
        "a": {"b": 1, "c": 0.001},
        "d": "x",
        "e": {"f": [1, 2]},
        "g": {"h": None},
        "i": {"j": "a=b"},
    }


@pytest.mark.parametrize("pair", ["epochs", "=3", "search.=3", ".epochs=3", "search..epochs=3", "a.b=[1,"])
def test_an_override_of_another_form_is_refused(pair):
    with pytest.raises(UserError, match=r"section\.key=value|as YAML"):
        overrides([pair])


def test_an_override_cannot_be_both_value_and_section():
    with pytest.raises(UserError, match="given a value before"):
        overrides(["search=5", "search.epochs=3"])
    with pytest.raises(UserError, match="given keys before"):
        overrides(["search.epochs=3", "search=5"])


def test_yaml_and_toml_say_the_same(tmp_path):
    (tmp_path / "a.yaml").write_text("method: snas\nsearch:\n  epochs: 3\n")
    (tmp_path / "a.toml").write_text('method = "snas"\n[search]\nepochs = 3\n')
    assert (
        read(tmp_path / "a.yaml") == read(tmp_path / "a.toml") == {"method": "snas", "search": {"epochs": 3}}
    )
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read(tmp_path / "empty.yaml") == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", b"a: [1", "cannot read"),
        ("a.toml", b"a = ", "cannot read"),
        ("a.yaml", b"\xff\xfe\x00", "cannot read"),
        ("a.yaml", b"- 1\n- 2\n", "should hold sections"),
        ("a.yaml", b"5: 3\n", "keys are words"),
        ("a.yaml", b"search:\n  1: 2\n", "keys are words"),
        ("a.yaml", b"!!python/object/apply:os.system ['true']", "cannot read"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path / name)


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(UserError, match="no configuration file"):
            read(path)


def test_a_sampler_without_gradient_cannot_train_logits() -> None:
    with pytest.raises(ConfigError, match="'uniform' gives the logits no gradient"):
        resolve({"method": "darts", "sampler": {"name": "uniform"}}, DataSize("digits", 1437, (1, 8, 8)))


def test_a_yaml_file_may_write_numbers_with_an_exponent(tmp_path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("architecture:\n  learning_rate: 3e-4\n  betas: [0.5, 9.99e-1]\n")
    assert read(file) == {"architecture": {"learning_rate": 3e-4, "betas": [0.5, 0.999]}}


def test_a_very_long_search_keeps_a_learning_rate_above_zero() -> None:
    given = {"method": "darts", "search": {"epochs": 100_000}}
    assert resolve(given, DataSize("digits", 1437, (1, 8, 8))).config.architecture.learning_rate > 0


@pytest.mark.parametrize("key", ["data.name", "derive.rule", "sampler.name", "hypergradient.name"])
def test_a_part_that_cannot_be_called_as_its_family_is_refused(key: str) -> None:
    section, name = key.split(".")
    with pytest.raises(ConfigError, match=rf"{key}: 'math:sin' cannot be called as"):
        check({section: {name: "math:sin"}})


# ---- sizes by rule


def test_the_size_of_the_data_says_whether_they_may_be_mirrored(few_digits):
    for mirror in (False, True):
        assert data_size(replace(few_digits, mirror=mirror), Config()).mirror is mirror


def test_images_are_flipped_where_the_data_say_so():
    for mirror in (False, True):
        resolved = resolve({}, DataSize("mine", 600, (3, 32, 32), mirror=mirror))
        assert resolved.config.data.flip is mirror
        assert any(note.startswith(f"data.flip = {mirror}:") for note in resolved.notes)
        told = resolve({"data": {"flip": not mirror}}, DataSize("mine", 600, (3, 32, 32), mirror=mirror))
        assert told.config.data.flip is not mirror
        assert not any(note.startswith("data.flip") for note in told.notes)


@pytest.mark.parametrize(("side", "crop"), [(1, 0), (2, 1), (8, 1), (16, 2), (32, 4), (64, 8), (224, 28)])
def test_the_crop_is_an_eighth_of_the_side(side, crop):
    space = {"name": "nasbench201", "stages": 1}
    assert resolve({"space": space}, DataSize("mine", 600, (3, side, side))).config.data.crop == crop


def test_a_crop_of_more_than_half_the_image_is_refused():
    size = DataSize("mine", 600, (3, 40, 20))
    assert resolve({"data": {"crop": 10}}, size).config.data.crop == 10
    assert only({"data": {"crop": 11}}, size).startswith("data.crop: 11 pixels of padding could leave more")


def sizes(images, side, method, space):
    """Every size that a rule may choose, as one row of numbers."""
    config = resolve(
        {"method": method, "space": {"name": space}}, DataSize("mine", images, (3, side, side), True)
    ).config
    search, train = config.search, config.train
    steps = images // 2 // search.batch_size
    learning = (search.epochs - search.warmup_epochs) * steps
    return {
        "search steps": search.epochs * steps,
        "learning steps": learning,
        "travel of a logit": config.architecture.learning_rate * learning,
        "train steps": train.epochs * (images // train.batch_size),
        "channels": config.space.settings().get("channels", 16),
        "cells": config.space.settings().get("cells", 5),
        "train channels": train.space.get("channels", 16),
        "train cells": train.space.get("cells", 5),
        "crop": config.data.crop,
    }


def changes(rows):
    """How much each size changes from row to row, as (key, before, after); a count may always change by 1."""
    pairs = itertools.pairwise(rows)
    return [
        (key, a[key], b[key])
        for a, b in pairs
        for key in a
        if abs(a[key] - b[key]) > (key != "travel of a logit")
    ]


@pytest.mark.parametrize("method", ["darts", "gdas"])
def test_a_tenth_more_images_never_change_the_sizes_by_a_leap(method):
    counts = [round(2_500 * 1.1**i) for i in range(24)]
    assert counts[0] < 3_000 < 20_000 < counts[-1]
    for key, before, after in changes([sizes(n, 32, method, "nasbench201") for n in counts]):
        assert 0.7 < after / before < 1.35, (key, before, after)


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
@pytest.mark.parametrize("boundary", [3_000, 20_000])
def test_nothing_happens_at_the_boundaries(boundary, space):
    for key, before, after in changes([sizes(boundary + n, 32, "gdas", space) for n in (-1, 0, 1)]):
        assert 0.98 < after / before < 1.02, (key, before, after)


def test_a_pixel_more_never_changes_the_sizes_by_a_leap():
    for key, before, after in changes([sizes(50_000, side, "gdas", "nasbench201") for side in range(14, 36)]):
        assert 0.6 < after / before < 1.5, (key, before, after)


def test_the_share_of_the_published_sizes():
    def share(images, side):
        return published_share(DataSize("mine", images, (3, side, 99)))

    assert [share(n, 32) for n in (0, 3_000, 20_000, 10**6)] == [0, 0, 1, 1]
    assert share(round(60_000_000**0.5), 32) == pytest.approx(0.5, abs=1e-4)
    assert [share(10**6, s) for s in (1, 16, 28, 32)] == [0, 0, 1, 1]
    assert (
        share(10_000, 17) < share(10_000, 20) < share(10_000, 27) == share(10_000, 28) == share(10_000, 224)
    )


def test_six_hundred_photographs_get_small_sizes_and_a_word_on_their_size():
    photographs = DataSize("mine", 480, (3, 224, 224), mirror=True)
    resolved = resolve({}, photographs)
    config = resolved.config
    assert (config.search.batch_size, config.search.epochs) == (16, 100)
    assert (config.train.batch_size, config.train.epochs) == (32, 54)
    assert config.space.settings()["channels"] == 8
    (word,) = [note for note in resolved.notes if note.startswith("data.resize")]
    assert "12 times the work of one on 64×64" in word
    told = resolve({"data": {"resize": 224}}, photographs)
    assert not any(note.startswith("data.resize") for note in told.notes)
    for side, notes in ((95, 0), (96, 1)):
        found = resolve({}, DataSize("mine", 480, (3, side, 300))).notes
        assert sum(note.startswith("data.resize") for note in found) == notes


def test_a_batch_size_that_was_given_sets_the_epochs_of_training():
    assert resolve({"train": {"batch_size": 10}}, DIGITS).config.train.epochs == 20
    assert resolve({"train": {"batch_size": 200}}, DIGITS).config.train.epochs == 112
