"""Copies with changed fields are those of `dataclasses.replace`."""

import dataclasses

import pytest

from kflab.control.runtime import ContainerRun, PodRuntime
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_pods import Container, Pod, PodSpec, PodStatus
from kflab.replacing import FEW, replace

POD = Pod(Meta("web", "shop", {"app": "web"}), spec=PodSpec((Container("c", "web:1"),)))


@pytest.mark.parametrize(
    ("obj", "changes"),
    [
        (POD, {"status": PodStatus("Running", ("10.0.0.2",), ready=True)}),
        (POD, {}),
        (POD.meta, {"uid": "u", "deletion_ns": 5}),
        (POD.spec, {"node_name": "a", "tolerations": ()}),
        (Node(Meta("a")), {"ready": "False"}),
        (PodRuntime(Key("Pod", "", "p"), "u", "a", (), True), {"listening": (("TCP", 80),), "names": {"c": 0}}),
    ],
)
def test_equals_the_dataclass_module(obj: object, changes: dict[str, object]) -> None:
    for _ in range(FEW + 2):  # the first ones slot by slot, the last ones compiled
        made = replace(obj, **changes)  # type: ignore[type-var]
        assert made == dataclasses.replace(obj, **changes)  # type: ignore[type-var]
        assert type(made) is type(obj)
        for field in dataclasses.fields(made):
            assert getattr(made, field.name) is changes.get(field.name, getattr(obj, field.name))


def test_the_original_stays_and_the_copy_is_frozen() -> None:
    run = ContainerRun("c")
    for _ in range(FEW + 2):
        made = replace(run, up=True)
        assert (run.up, made.up) == (False, True)
        with pytest.raises(dataclasses.FrozenInstanceError):
            made.up = False  # type: ignore[misc]


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"Meta has no field 'nmae'; it has name, namespace"):
        replace(POD.meta, nmae="x")  # type: ignore[call-arg]
