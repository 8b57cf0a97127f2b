"""Mistakes in a config are named before anything is built."""

import inspect
import math
from typing import Literal

import pytest

from ffl.errors import UserError
from ffl.ranges import Count, Decay, Positive
from ffl.training.config import OPTIONS, TrainerConfig, check_section, describe, difference, matches, section_defaults
from ffl.training.objective import Objective
from models.spade.model import Spade


def _build(
    size: int, kind: Literal["a", "b"] = "a", rate: float = 0.1, betas: tuple[float, float] = (0.0, 0.9)
) -> None:
    """Stands for a class that a section builds."""


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"size": 3, "knd": "a"},
            "unknown key model.knd: did you mean model.kind? allowed: model.betas, model.kind",
        ),
        ({"size": "three"}, "model.size=three: expected an integer"),
        ({"size": True}, "model.size=True: expected an integer"),
        ({"size": 3, "kind": "c"}, "model.kind=c: expected one of a, b"),
        ({"size": 3, "betas": [0.5]}, "model.betas=[0.5]: expected a list of 2 (a number, a number)"),
        ({}, "model.size is missing: expected an integer"),
    ],
)
def test_error_names_key_value_and_allowed(values: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        check_section("model", values, _build, provided=set())
    assert message in str(error.value)


def test_valid_section_passes_and_provided_arguments_are_not_keys() -> None:
    check_section("model", {"size": 3, "rate": 1}, _build, provided=set())
    with pytest.raises(UserError, match=r"unknown key model\.size"):
        check_section("model", {"size": 3}, _build, provided={"size"})


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, True),
        (True, float, False),
        (None, int | None, True),
        ([1, 2], list[int], True),
        (["a"], list[int], False),
    ],
)
def test_matches(value: object, hint: object, expected: bool) -> None:
    assert matches(value, hint) is expected


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        (0, Count, "an integer at least 1"),
        (0.0, Positive, "a number above 0"),
        (math.nan, Positive, "a number above 0"),
        (math.inf, float, "a number"),
        (math.nan, float | None, "a number or null"),
        (
            [0.5, 1.0],
            tuple[Decay, Decay],
            "a list of 2 (a number at least 0 and below 1, a number at least 0 and below 1)",
        ),
    ],
)
def test_ranges_are_part_of_the_type(value: object, hint: object, words: str) -> None:
    assert not matches(value, hint)
    assert describe(hint) == words


@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": 0},
        {"steps": 0},
        {"val_images": -1},
        {"threads": 10**9},
        {"clip_grad_norm": 0.0},
        {"precision": "fp8"},
        {"accelerator": "tpu"},
    ],
)
def test_impossible_trainer_settings(values: dict) -> None:
    with pytest.raises(UserError, match=f"trainer.{next(iter(values))}="):
        check_section("trainer", {"epochs": 2, "batch_size": 4, **values}, TrainerConfig, provided=set())


def test_decay_longer_than_the_run() -> None:
    with pytest.raises(UserError, match=r"trainer\.lr_decay_epochs=9: longer than the run"):
        TrainerConfig(epochs=2, batch_size=4, lr_decay_epochs=9)


def test_difference_ignores_what_does_not_change_the_weights() -> None:
    old = {"seed": 0, "data_root": "a", "loss": {"alpha": 1.0}, "trainer": {"log_every": 1, "device": "cpu"}}
    new = {"seed": 0, "data_root": "b", "loss": {"alpha": 2.0}, "trainer": {"log_every": 9, "accelerator": "auto"}}
    assert difference(old, new) == ["loss.alpha: 1.0 -> 2.0"]
    assert difference({"seed": 0}, {"seed": 1}) == ["seed: 0 -> 1"]


def test_difference_ignores_options_of_what_is_off() -> None:
    def loss(ffl: bool, weight: float, regularization: float, form: str) -> dict:
        return {
            "loss": {"ffl": ffl, "weight": weight, "spectral_regularization": regularization, "spectral_form": form}
        }

    assert difference(loss(False, 10.0, 0.0, "paper"), loss(False, 100.0, 0.0, "published")) == []
    assert difference(loss(True, 10.0, 0.0, "paper"), loss(True, 100.0, 0.0, "paper")) == ["loss.weight: 10.0 -> 100.0"]
    assert len(difference(loss(False, 10.0, 0.5, "paper"), loss(True, 100.0, 0.5, "published"))) == 3


def test_a_run_from_before_a_key_of_the_loss_is_the_run_without_it() -> None:
    old, defaults = {"loss": {"ffl": False}}, section_defaults("loss", Objective)
    assert difference(old, {"loss": {"ffl": False, "terms": []}}, defaults) == []
    assert difference(old, {"loss": {"ffl": False, "terms": ["haar"]}}, defaults) == ["loss.terms: () -> ['haar']"]


def test_options_of_what_is_off_are_keys() -> None:
    names = {f"loss.{name}" for name in inspect.signature(Objective).parameters}
    names -= {"loss.start_step", "loss.terms"}  # of all terms together, and these terms themselves
    spade = {"model.vgg_weight", "model.vgg_network"}
    assert OPTIONS.keys() | {option for options in OPTIONS.values() for option in options} == names | spade
    assert spade <= section_defaults("model", Spade).keys()


@pytest.mark.parametrize(
    ("term", "network", "default"),
    [("loss.perceptual", "perceptual_network", "vgg16"), ("model.vgg_weight", "vgg_network", "vgg19")],
)
def test_an_older_run_fits_any_network_of_a_loss_that_is_off(term: str, network: str, default: str) -> None:
    section, weight = term.split(".")
    defaults = section_defaults("loss", Objective) | section_defaults("model", Spade)
    for value, other in ((0.0, []), (1.0, [f"{section}.{network}: {default} -> stlpips_vgg"])):
        old = {section: {weight: value}}
        assert difference(old, {section: {weight: value, network: default}}, defaults) == []
        assert difference(old, {section: {weight: value, network: "stlpips_vgg"}}, defaults) == other


def test_a_key_that_an_older_config_lacks_stands_for_its_default() -> None:
    defaults = section_defaults("model", _build)
    assert defaults == {"model.kind": "a", "model.rate": 0.1, "model.betas": (0.0, 0.9)}
    old, new = {"model": {"size": 3}}, {"model": {"size": 3, "kind": "a", "rate": 0.1, "betas": [0.0, 0.9]}}
    assert difference(old, new, defaults) == difference(new, old, defaults) == []
    new["model"]["kind"] = "b"
    assert difference(old, new, defaults) == ["model.kind: a -> b"]
    assert difference({"model": {"size": 3, "gone": 1}}, old, defaults) == ["model.gone: 1 -> absent"]
