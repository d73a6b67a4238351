"""Which parameter goes to which optimiser."""

from __future__ import annotations

from limner.contracts import ImageSpec
from limner.models import UNet, UNetConfig
from limner.objectives import AdamWConfig, MuonConfig


def test_muon_takes_what_lies_inside_and_adamw_the_rest() -> None:
    net = UNet(UNetConfig(width=16, multipliers=(1, 2)), ImageSpec(1, (8, 8), "L"), 10)
    built = MuonConfig(lr=0.01, rest=AdamWConfig(lr=0.003)).build("net", net)
    inside, rest = ({id(p) for p in built[name].param_groups[0]["params"]} for name in ("net.muon", "net.rest"))
    assert not inside & rest
    assert inside | rest == {id(p) for p in net.parameters()}
    assert id(net.down[0].conv0.weight) in inside  # type: ignore[union-attr]
    assert {id(net.head.weight), id(net.embed.embed_label.weight), id(net.norm.weight)} <= rest  # type: ignore[union-attr]
    assert AdamWConfig().build("net", net).keys() == {"net"}
