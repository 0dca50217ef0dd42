"""How many engines of each model a cluster gets: numbers worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cluster.cluster_view import addable, node_of
from orchestrator.cluster.placement import EngineDemand, EngineNeed, ModelNeeds, Node, allot, engine_demand
from orchestrator.errors import BadInput
from orchestrator.spec.engines import EnginesEntry


def model_needs(name: str = "model", *, num_open: int = 1000, gpus: float = 1.0, is_small: bool = False) -> ModelNeeds:
    return ModelNeeds(model=name, num_open=num_open, num_begun=num_open, gpus=gpus, is_small=is_small)


def nodes_of(*sizes: tuple[float, float]) -> list[Node]:
    return [Node(cpus=cpus, gpus=gpus, gpu_gigabytes=80.0 * bool(gpus)) for cpus, gpus in sizes]


@pytest.mark.parametrize(
    ("engines", "nodes", "expected"),
    [
        (EnginesEntry(), nodes_of((2, 0)), (1, 1.5, 0.0)),
        (EnginesEntry(), nodes_of((16, 4)), (4, 1.0, 1.0)),
        (EnginesEntry(device="cpu"), nodes_of((16, 4)), (1, 15.5, 0.0)),
        (EnginesEntry(gpus=0), nodes_of((16, 4)), (1, 15.5, 0.0)),
        (EnginesEntry(gpus=0.5), nodes_of((16, 1)), (2, 1.0, 0.5)),
        (EnginesEntry(count=3, cpus=2), nodes_of((8, 0)), (3, 2, 0.0)),
        (EnginesEntry(count=1), nodes_of((16, 4)), (1, 1.0, 1.0)),
        # An engine lives on one node.
        (EnginesEntry(), nodes_of((16, 0), (16, 0)), (2, 15.5, 0.0)),
        (EnginesEntry(), nodes_of((2, 0), (16, 0)), (1, 15.5, 0.0)),
        # Two threads on two processors: the trials keep half of one, or they would never start.
        (EnginesEntry(cpus=2), nodes_of((2, 0)), (1, 1.5, 0.0)),
        # As many GPUs as processors: each engine gives up a little of one.
        (EnginesEntry(), nodes_of((4, 4)), (4, 3.5 / 4, 1.0)),
    ],
)
def test_engines_take_what_there_is(engines, nodes, expected):
    asked = engine_demand(engines, model_needs(), nodes)
    counts = allot([asked], nodes, most=None if engines.count == "auto" else engines.count)
    assert (counts["model"], asked.need.cpus, asked.need.gpus) == expected


@pytest.mark.parametrize(
    ("engines", "message"),
    [
        (EnginesEntry(gpus=1), "the cluster has 0"),
        (EnginesEntry(count=80), "do not fit side by side"),
        (EnginesEntry(cpus=4), "do not fit"),
    ],
)
def test_what_a_cluster_cannot_hold_is_refused(engines, message):
    with pytest.raises(BadInput, match=message):
        engine_demand(engines, model_needs(), nodes_of((2, 0)))


@pytest.mark.parametrize(
    ("sizes", "num_open", "count"),
    [
        ([(2, 0)], 64, 2),
        ([(8, 0)], 40, 5),
        ([(2, 0)], 24, 2),
        ([(8, 0)], 5, 1),
        ([(4, 0), (4, 0)], 1000, 8),
        ([(4, 1)], 1000, 1),
    ],
)
def test_small_models_get_an_engine_a_processor_when_there_is_work_for_them(sizes, num_open, count):
    nodes = nodes_of(*sizes)
    asked = engine_demand(EnginesEntry(), model_needs(num_open=num_open, is_small=True), nodes)
    assert allot([asked], nodes) == {"model": count}


def test_models_run_one_after_another_while_each_fills_the_cluster_and_side_by_side_at_the_end_of_one():
    nodes = nodes_of((16, 4), (16, 4))

    def place(*open_searches: int) -> dict[str, int]:
        demands = [model_needs(f"m{i}", num_open=number) for i, number in enumerate(open_searches)]
        return allot([engine_demand(EnginesEntry(), each, nodes) for each in demands if each.num_open], nodes)

    assert place(800, 800) == {"m0": 8}
    assert place(250, 800) == {"m0": 3, "m1": 5}
    assert place(1, 800) == {"m0": 1, "m1": 7}
    assert place(0, 800) == {"m1": 8}
    # Nobody fills the last places: what there is is spread over them.
    assert place(50, 50) == {"m0": 6, "m1": 2}
    assert place(*[50] * 8) == {f"m{i}": 1 for i in range(8)}


def test_an_engine_stays_while_nobody_wants_its_place():
    nodes = nodes_of((2, 0))
    late = ModelNeeds(model="m", num_open=10, num_begun=64, gpus=1.0, is_small=True)
    assert allot([engine_demand(EnginesEntry(), late, nodes)], nodes) == {"m": 2}
    other = model_needs("n", num_open=64, is_small=True)
    assert allot([engine_demand(EnginesEntry(), each, nodes) for each in (late, other)], nodes) == {"m": 1, "n": 1}


def test_nodes_that_may_be_added_are_asked_for_only_where_searches_fill_them():
    head = node_of({"CPU": 8.0})
    config = {
        "max_workers": 3,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 8}},
            "spot": {"resources": {"CPU": 8, "GPU": 1, "accelerator_type:L4": 1}, "max_workers": 3},
            "on_demand": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 3},
        },
    }
    to_come = addable(config, num_workers=0)
    assert [(node.gpus, node.gpu_gigabytes, node.present) for node in to_come] == [(1, 24.0, False)] * 3
    assert addable(config, num_workers=3) == []
    asked = engine_demand(EnginesEntry(), model_needs(num_open=100), [head, *to_come])
    assert asked.need.gpus == 1
    assert allot([asked], [head, *to_come]) == {"model": 1}
    many = engine_demand(EnginesEntry(), model_needs(num_open=1000), [head, *to_come])
    assert allot([many], [head, *to_come]) == {"model": 3}


SIZES = st.tuples(st.integers(1, 32), st.integers(0, 8))
NEEDS = st.builds(EngineNeed, cpus=st.sampled_from([0.5, 1.0, 4.0]), gpus=st.sampled_from([0.0, 0.25, 1.0, 2.0]))


@given(st.lists(SIZES, max_size=5), st.lists(st.tuples(NEEDS, st.integers(1, 20)), max_size=4), st.integers(0, 30))
def test_what_is_placed_fits(sizes, needs, most):
    nodes = nodes_of(*sizes)
    asked = [
        EngineDemand(model=str(i), need=need, fills=fills, most=fills + 3) for i, (need, fills) in enumerate(needs)
    ]
    counts = allot(asked, nodes, most=most)
    assert sum(counts.values()) <= most
    assert all(counts.get(each.model, 0) <= each.most for each in asked)
    for what in ("cpus", "gpus"):
        taken = sum(getattr(each.need, what) * counts.get(each.model, 0) for each in asked)
        assert taken <= sum(getattr(node, what) for node in nodes) + 1e-6
