"""Multi-hop: which stacks follow facts that lead to facts, at which rate and load. The studies behind chapter 10.7."""

from functools import partial

from reference.experiments.toys import tasks
from reference.experiments.toys.settings import StudySetting, layers_of, places
from reference.experiments.toys.training import Recipe, Stack

HOPPING = {
    "all Gated DeltaNet": Stack(("gated_deltanet",) * 3),
    "2:1, softmax last": Stack(("gated_deltanet", "gated_deltanet", "softmax_nope")),
    "all softmax": Stack(("softmax_nope",) * 3),
    "3:1": layers_of("gated_deltanet", "softmax_nope", 4, 4),
    "3:1, softmax first": places("gated_deltanet", "softmax_nope")["first"],
    "1:1": layers_of("gated_deltanet", "softmax_nope", 4, 2),
    "all softmax, RoPE": Stack(("softmax",) * 3),
    "all KDA": Stack(("kda",) * 3),
    "all lightning": Stack(("lightning",) * 3),
    "all linear": Stack(("linear",) * 3),
}
HOPPING_MAIN = {name: HOPPING[name] for name in ("all Gated DeltaNet", "3:1", "all softmax")}
HOPPING_SLOWER = HOPPING_MAIN | {"all lightning": HOPPING["all lightning"]}
HOPPING_NARROW = {
    "all Gated DeltaNet": HOPPING["all Gated DeltaNet"],
    "all Gated DeltaNet, Dk 8": Stack(("gated_deltanet",) * 3, 8),
}
HOPPING_PURE = {name: HOPPING[name] for name in ("all softmax", "all Gated DeltaNet")}
HOPPING_FIVE = {  # five layers, for three hops
    "all Gated DeltaNet": Stack(("gated_deltanet",) * 5),
    "4:1": layers_of("gated_deltanet", "softmax_nope", 5, 5),
    "all softmax": Stack(("softmax_nope",) * 5),
}
HOPPING_DEEP = {
    "3:1, windows": layers_of("sliding_window", "softmax_nope", 4, 4),
    "7:1": layers_of("gated_deltanet", "softmax_nope", 8, 8),
}
# The second hop needs the loss at every layer; linear layers find it sooner with wide keys, all with 16 texts a step.
HOPS = Recipe(2000, batch_size=16, lrs=(1e-2,), key_dim=32, tied=True, constant=True, every_layer=True, solved=0.15)

HOP_STUDIES = {
    "multi_hop": StudySetting(tasks.multi_hop, HOPPING, HOPS, tuple(HOPPING_MAIN), HOPS),
    "multi_hop_faster": StudySetting(
        tasks.multi_hop,
        HOPPING_PURE,
        HOPS._replace(lrs=(2e-2,)),
        tuple(HOPPING_PURE),
        HOPS._replace(lrs=(2e-2,)),
    ),
    "multi_hop_slower": StudySetting(
        tasks.multi_hop,
        HOPPING_SLOWER,
        HOPS._replace(steps=3000, lrs=(3e-3,)),
        tuple(HOPPING_PURE),
        HOPS._replace(lrs=(3e-3,)),
    ),
    "multi_hop_load": StudySetting(
        partial(tasks.multi_hop, 64, (2, 4, 8), (4, 8, 16)),
        HOPPING_MAIN,
        HOPS,
        tuple(HOPPING_PURE),
        HOPS,
    ),
    "multi_hop_heavier": StudySetting(
        partial(tasks.multi_hop, later=(4, 8)),
        HOPPING_NARROW,
        HOPS._replace(steps=1800, solved=0.0),
        ("all Gated DeltaNet",),
        HOPS._replace(steps=1800, solved=0.0),
    ),
    "multi_hop_last": StudySetting(
        tasks.multi_hop,
        HOPPING_PURE,
        HOPS._replace(every_layer=False),
        tuple(HOPPING_PURE),
        HOPS._replace(every_layer=False),
    ),
    "multi_hop_spelled": StudySetting(
        tasks.hops_spelled,
        HOPPING_MAIN,
        HOPS._replace(every_layer=False),
        tuple(HOPPING_MAIN),
        HOPS._replace(every_layer=False),
    ),
    "multi_hop_slowest": StudySetting(
        tasks.multi_hop,
        HOPPING_PURE,
        HOPS._replace(steps=3000, lrs=(1e-3,)),
        tuple(HOPPING_PURE),
        HOPS._replace(lrs=(1e-3,)),
    ),
    "multi_hop_three": StudySetting(
        partial(tasks.multi_hop, most=3),
        HOPPING_FIVE,
        HOPS._replace(steps=2500),
        ("all softmax",),
        HOPS,
    ),
    "multi_hop_deep": StudySetting(tasks.multi_hop, HOPPING_DEEP, HOPS, ("3:1, windows",), HOPS),
}
