"""Policies and engines by name and from files; errors name the field."""

import json
from pathlib import Path

import pytest

from core.settings.engine import EngineSettings, SimulatedSettings
from core.settings.workers import WorkerSettings
from planning.errors import PolicyInvalid, ProfileInvalid
from planning.policy import NAMED, SHIPPED, find_policy
from planning.profile import read_profile, simulated_profile

REFERENCE = Path(__file__).parents[3] / "planning" / "engines" / "reference.json"


def test_named_policies_and_fixed_fleets_are_found() -> None:
    assert find_policy("shipped") == SHIPPED
    assert {name: find_policy(name).name for name in NAMED} == {name: name for name in NAMED}
    fixed = find_policy("fixed:12")
    assert (fixed.kind, fixed.min_replicas, fixed.max_replicas) == ("fixed", 12, 12)


def test_policy_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"name": "mine", "target": 0.5, "down": {
        "window_seconds": 60, "pods": 1, "period_seconds": 30}}))  # fmt: skip

    policy = find_policy(str(file))

    assert (policy.name, policy.target, policy.down.pods) == ("mine", 0.5, 1)
    assert policy.up == SHIPPED.up


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "policy 'nonsense' not found; expected shipped, warm, early"),
        ("fixed:", "policy 'fixed:' not found"),
        ("fixed:0", "N being 1 or more"),
        ("fixed:-3", "expected fixed:N"),
        ("none.json", "none.json: No such file"),
    ],
)
def test_unknown_policy_says_what_there_is(text: str, message: str) -> None:
    with pytest.raises(PolicyInvalid, match=message):
        find_policy(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_replicas": 5, "max_replicas": 4}, "must not exceed max_replicas"),
        ({"target": 0}, "target: Input should be greater than 0"),
        ({"nonsense": 1}, "nonsense: Extra inputs"),
        ({"down": {"window_seconds": 0, "period_seconds": 5}}, "down: percent or pods"),
        ({"kind": "fixed"}, "needs min_replicas"),
        ({"max_replicas": 0}, "max_replicas: Input should be greater"),
    ],
)
def test_wrong_policy_file_names_the_field(
    tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps({"name": "wrong", **fields}))

    with pytest.raises(PolicyInvalid, match=message):
        find_policy(str(file))


def test_reference_engine_is_a_valid_profile() -> None:
    profile = read_profile(REFERENCE)

    assert profile.gpus == 8
    assert "not measured" in profile.name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"slots": 0}, "slots: Input should be greater"),
        ({"prefill_tokens_per_second": 0}, "prefill_tokens_per_second: Input should be greater"),
        ({"step_base_seconds": 0, "step_per_sequence_seconds": 0}, "must not both be 0"),
        ({"step_base_seconds": None}, "step_base_seconds: Input should be a valid number"),
        ({"unknown": 3}, "unknown: Extra inputs"),
    ],
)
def test_wrong_engine_file_names_the_field(
    tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    file = tmp_path / "engine.json"
    file.write_text(json.dumps({**json.loads(REFERENCE.read_text()), **fields}))

    with pytest.raises(ProfileInvalid, match=message):
        read_profile(file)


def test_engine_file_that_is_no_json_or_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "engine.json"
    file.write_text("{")
    with pytest.raises(ProfileInvalid, match=r"engine\.json: the file: Invalid JSON"):
        read_profile(file)
    with pytest.raises(ProfileInvalid, match="No such file"):
        read_profile(tmp_path / "none.json")


def test_simulated_engine_has_the_model_of_its_settings() -> None:
    simulated = SimulatedSettings(step_base_seconds=0.02, start_seconds=7)
    profile = simulated_profile(EngineSettings(kind="simulated", slots=5, simulated=simulated))

    assert (profile.slots, profile.start_seconds, profile.step_base_seconds) == (5, 7, 0.02)
    assert profile.kv_tokens == 0
    assert profile.drain_seconds == WorkerSettings().drain_seconds
