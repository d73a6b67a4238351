from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.distributions import Categorical, at


@given(
    st.lists(st.one_of(st.floats(-30, 30), st.just(-float("inf"))), min_size=1, max_size=40).filter(
        lambda logits: max(logits) > -float("inf")
    ),
    st.floats(2**-24, 1 - 2**-24),
)
def test_a_value_is_where_the_cumulated_distribution_passes_a_uniform(logits: list[float], uniform: float) -> None:
    said = torch.tensor(logits).double()
    value = int(at(said, torch.tensor(uniform).double()))
    ends = torch.softmax(said, 0).cumsum(0)
    assert logits[value] > -float("inf")
    assert float(ends[value]) > uniform - 1e-12
    assert (float(ends[value - 1]) if value else 0.0) <= uniform + 1e-12


def test_values_that_do_not_know_of_each_other() -> None:
    said = Categorical(torch.randn(7, 3, 11).double())
    values, uniforms = torch.randint(0, 11, (7, 3)), torch.rand(7, 4).double()
    torch.testing.assert_close(said.log_prob(values), super(Categorical, said).log_prob(values))
    assert torch.equal(said.draw(uniforms), super(Categorical, said).draw(uniforms))
    assert torch.equal(said.index(slice(2, 5)).said, said.said[2:5])
