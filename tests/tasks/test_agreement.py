"""Logits agree if they differ by rounding alone: everywhere in float32, in the middle of a group in bfloat16."""

import math

import torch

from tasks.agreement import Agreement

WANTED = torch.tensor([[8.0, 2.0], [4.0, 1.0], [2.0, 6.0]])


def moved(*amounts: float) -> torch.Tensor:
    """The wanted logits with the first of each position moved by these amounts."""
    return WANTED + torch.tensor([[amount, 0.0] for amount in amounts])


def test_the_unit_is_the_largest_logit_that_is_no_mask():
    masked = torch.cat([WANTED, torch.tensor([[-3e38, -math.inf]])])
    assert Agreement(torch.float32, masked).differences(moved(0, 4, 0), WANTED).tolist() == [0, 0.5, 0]
    assert Agreement(torch.float32, 0 * WANTED).differences(moved(0, 4, 0), WANTED).tolist() == [0, 4, 0]


def test_one_position_decides_in_float32_and_none_alone_in_bfloat16():
    assert not Agreement(torch.float32, WANTED).holds(moved(0, 0, 1), WANTED)
    coarse = Agreement(torch.bfloat16, WANTED)
    assert coarse.holds(moved(0, 0, 8), WANTED)
    assert coarse.largest == 1.0
    assert not coarse.holds(moved(0, 8, 8), WANTED)
    assert coarse.largest == 1.0


def test_each_group_decides():
    coarse = Agreement(torch.bfloat16, WANTED)
    assert coarse.holds(torch.cat([WANTED, moved(8, 8, 0)]), torch.cat([WANTED, WANTED]))
    groups = [coarse.differences(WANTED, WANTED), coarse.differences(moved(8, 8, 0), WANTED)]
    assert not coarse.holds_in(groups)
    assert coarse.shown() == "logits differ by up to 1 of the largest"
    assert coarse.holds_in([])


def test_what_is_not_finite_differs_unless_the_reference_is_not_finite():
    agreement = Agreement(torch.float32, WANTED)
    for number in (math.nan, math.inf, -math.inf):
        assert agreement.holds(WANTED, moved(0, number, 0))
        assert not agreement.holds(moved(0, number, 0), WANTED)
        assert agreement.shown() == "logits are not finite"
    # The other logits of a position still count.
    assert not agreement.holds(WANTED + 1, moved(math.nan, math.nan, math.nan))
