"""How slots are cut into batches, and packed into rows."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.batches import DETERMINISTIC_SLOTS, cheapest_batches, fixed_batches, packed_batches
from tasks.packing import LEAST_WIDTH, Rows, pack


def test_fixed_batches_have_one_shape_and_leave_no_slot_out():
    batches = fixed_batches([3, 17, 16, 40, 5], [1, 1, 1, 1, 2])
    assert all(len(batch.index_B) == DETERMINISTIC_SLOTS for batch in batches)
    real = sorted(i for batch in batches for i in batch.index_B[: batch.num_real].tolist())
    assert real == [0, 1, 2, 3, 4]
    assert [batch.width for batch in batches] == [16, 16, 32, 48]


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=200),
    most_tokens=st.integers(1, 400),
    batch_cost=st.integers(0, 300),
)
def test_cheapest_batches_hold_every_slot_once_and_fit(lengths, most_tokens, batch_cost):
    batches = cheapest_batches(lengths, most_tokens=most_tokens, batch_cost=batch_cost)
    assert sorted(i for batch in batches for i in batch.index_B.tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert batch.width == max(lengths[i] for i in batch.index_B.tolist())
        assert batch.width * batch.num_real <= most_tokens or batch.num_real == 1


def test_slots_of_unlike_lengths_are_cut_apart_where_padding_costs_more_than_a_batch():
    lengths = [10] * 10 + [50]
    together = cheapest_batches(lengths, most_tokens=1000, batch_cost=500)
    apart = cheapest_batches(lengths, most_tokens=1000, batch_cost=300)
    assert [batch.num_real for batch in together] == [11]
    assert [batch.num_real for batch in apart] == [10, 1]


NUM_INPUTS = st.lists(st.integers(1, 60), min_size=1, max_size=60)


@given(num_inputs=NUM_INPUTS, most_tokens=st.integers(1, 400))
def test_packed_batches_hold_every_slot_once_and_fit(num_inputs, most_tokens):
    batches = packed_batches([count + 1 for count in num_inputs], num_inputs, most_tokens=most_tokens)
    assert sorted(i for batch in batches for i in batch.index_B.tolist()) == list(range(len(num_inputs)))
    for batch in batches:
        slots = batch.index_B.tolist()
        assert batch.width == max(num_inputs[i] for i in slots) + 1
        assert sum(num_inputs[i] for i in slots) <= most_tokens or len(slots) == 1
        assert batch.rows is not None
        assert batch.rows.num_inputs_B.tolist() == [num_inputs[i] for i in slots]


def contents(num_inputs: list[int], rows: Rows) -> tuple[list[list[int]], list[list[int]]]:
    """What stands in the rows if input t of slot b is the number 100 b + t, and its position."""
    inputs_BT = 100 * torch.arange(len(num_inputs))[:, None] + torch.arange(max(num_inputs))
    laid, positions = rows.lay(inputs_BT[..., None])
    return laid[..., 0].tolist(), positions.tolist()


@given(NUM_INPUTS)
def test_a_packed_slot_stands_in_one_piece_at_its_place(num_inputs):
    rows = pack(num_inputs)
    laid, positions = (torch.tensor(part).flatten() for part in contents(num_inputs, rows))
    for slot, count in enumerate(num_inputs):
        place_N = rows.place(torch.full((count,), slot), torch.arange(count))
        assert laid[place_N].tolist() == [100 * slot + t for t in range(count)]
        assert positions[place_N].tolist() == list(range(count))
        assert len(set((place_N // rows.width).tolist())) == 1
    # Padding lies at position 0, and there is little of it.
    assert int((positions > 0).sum()) == sum(num_inputs) - len(num_inputs)
    assert rows.num_rows * rows.width <= 2 * sum(num_inputs)


def test_rows_are_as_wide_as_the_longest_slot_or_the_least_width():
    assert (pack([8] * 24).num_rows, pack([8] * 24).width) == (8 * 24 // LEAST_WIDTH, LEAST_WIDTH)
    assert (pack([5]).num_rows, pack([5]).width) == (1, 5)
    assert contents([3, 2], pack([3, 2])) == ([[0, 1, 2, 100, 101]], [[0, 1, 2, 0, 1]])
    wide = pack([50, 30, 20, 20, 30])
    assert (wide.num_rows, wide.width) == (3, 50)
