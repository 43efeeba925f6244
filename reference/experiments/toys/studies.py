"""Which mixer learns which task: the studies behind chapter 10. Each is a task, the models compared, and a recipe.

reference/experiments/catalogue.py says under the same name what each asks and how long it takes.
"""

from functools import partial

from reference.experiments.toys import tasks
from reference.experiments.toys.hopping import HOP_STUDIES
from reference.experiments.toys.settings import StudySetting, layers_of, places, ratios
from reference.experiments.toys.training import Recipe, Stack

ONE_LAYER = {
    name: Stack((name,))
    for name in (
        *("softmax", "softmax_nope", "gated_softmax", "sliding_window", "linear", "lightning", "gated_linear"),
        *("deltanet", "gated_deltanet", "gated_deltanet_neg", "kda"),
    )
}
TWO_LAYERS = {
    name: Stack((name, name))
    for name in ("softmax", "gated_linear", "gated_deltanet", "deltanet_neg", "gated_deltanet_neg")
}
RECALL_AND_PARITY = {
    "softmax": Stack(("softmax_nope", "softmax_nope")),
    "delta": Stack(("deltanet_neg", "deltanet_neg")),
    "hybrid": Stack(("softmax_nope", "deltanet_neg")),
    "hybrid, delta first": Stack(("deltanet_neg", "softmax_nope")),
    "softmax with RoPE": Stack(("softmax", "softmax")),
    "hybrid, beta below 1": Stack(("softmax_nope", "deltanet")),
}
FIVE = {name: ONE_LAYER[name] for name in ("softmax", "softmax_nope", "linear", "gated_linear", "gated_deltanet")}
BY_PARITY = {
    "linear, softmax": Stack(("deltanet_neg", "softmax_nope")),
    "all softmax": Stack(("softmax_nope",) * 2),
    "all linear, Dk 4": Stack(("deltanet_neg",) * 2, 4),
    "beta below 1, softmax": Stack(("deltanet", "softmax_nope")),
    "all linear": Stack(("deltanet_neg",) * 2),
}
THEN = {
    "all softmax": Stack(("softmax_nope",) * 2),
    "all Gated DeltaNet": Stack(("gated_deltanet",) * 2),
    "all Gated DeltaNet, Dk 4": Stack(("gated_deltanet",) * 2, 4),
    "Gated DeltaNet, softmax": Stack(("gated_deltanet", "softmax_nope")),
    "all lightning": Stack(("lightning",) * 2),
}
THEN_LONGER = {
    "all Gated DeltaNet": THEN["all Gated DeltaNet"],
    "softmax, Gated DeltaNet": Stack(("softmax_nope", "gated_deltanet")),
}
DEEP = ratios("gated_deltanet") | {
    "all lightning": Stack(("lightning",) * 8),
    "lightning 7:1": layers_of("lightning", "softmax", 8, 8),
    "window 3:1": layers_of("sliding_window", "softmax", 8, 4),
}
BY_KEY_DIM = {
    f"{name}, Dk {size}": Stack((name,), size) for name in ("linear", "gated_deltanet") for size in (4, 8, 16, 32)
}
BY_KEY_DIM |= {f"softmax_nope, Dk {size}": Stack(("softmax_nope",), size) for size in (4, 16)}
BY_KEY_DIM_SOLVED = {f"least_squares, Dk {size}": Stack(("least_squares",), size) for size in (4, 8)}
RATES = (1e-3, 3e-3, 1e-2)
HIGH_RATES = (3e-3, 1e-2)  # of one layer
LOW_RATES = (1e-3, 3e-3)  # of several
QUICK = Recipe(800, lrs=(5e-3,))
ONE_QUESTION = FIVE, Recipe(800, lrs=HIGH_RATES), ("softmax", "linear", "gated_deltanet")  # models, recipe, quick
SHORT_RUN = QUICK._replace(steps=400, lrs=(3e-3,))  # of deep stacks: shows that it runs, not how it ends
# No loss is below 0: no run ends early, since the load grows with the steps, and all rates fall at the end.
INSIDE = Recipe(800, batch_size=8, lrs=RATES, tied=True, constant=True, every_layer=True, solved=0.0)
STUDIES = {
    "two_tasks": StudySetting(
        tasks.two_tasks,
        RECALL_AND_PARITY,
        Recipe(3000, key_dim=8, lrs=RATES),
        ("softmax", "delta", "hybrid"),
        QUICK._replace(key_dim=8),
    ),
    "recall": StudySetting(
        tasks.recall,
        ONE_LAYER,
        Recipe(1500, lrs=RATES),
        ("softmax", "softmax_nope", "linear", "gated_linear", "gated_deltanet"),
        QUICK,
    ),
    "state_size": StudySetting(
        tasks.recall,
        BY_KEY_DIM,
        Recipe(1000, lrs=HIGH_RATES),
        ("linear, Dk 4", "linear, Dk 16", "gated_deltanet, Dk 4", "gated_deltanet, Dk 16"),
        QUICK,
    ),
    "overwrite": StudySetting(
        tasks.overwrite,
        ONE_LAYER,
        Recipe(1500, lrs=RATES),
        ("linear", "gated_deltanet", "softmax"),
        QUICK._replace(steps=2000),
    ),
    "stream": StudySetting(
        tasks.stream,
        ONE_LAYER,
        Recipe(1500, key_dim=8, lrs=RATES),
        ("linear", "gated_deltanet", "softmax"),
        QUICK._replace(key_dim=8),
    ),
    "needle": StudySetting(tasks.needle, *ONE_QUESTION, QUICK._replace(steps=1200)),
    "copying": StudySetting(tasks.copying, *ONE_QUESTION, QUICK),
    "induction": StudySetting(tasks.induction, *ONE_QUESTION, QUICK),
    "parity": StudySetting(
        tasks.parity,
        ONE_LAYER | {"deltanet_neg": Stack(("deltanet_neg",))},
        Recipe(1500, batch_size=64, d_model=32, lrs=RATES),
        ("softmax", "gated_deltanet", "gated_deltanet_neg"),
        QUICK._replace(batch_size=64, d_model=32, lrs=(3e-3,)),
    ),
    "permutations_3": StudySetting(
        partial(tasks.permutations, 3, swaps=False),
        TWO_LAYERS,
        Recipe(1200, lrs=RATES),
        ("softmax", "gated_deltanet_neg"),
        QUICK._replace(lrs=(3e-3,)),
    ),
    "permutations_5": StudySetting(
        partial(tasks.permutations, 5, swaps=True),
        TWO_LAYERS,
        Recipe(1600, lrs=RATES),
        ("softmax", "gated_deltanet_neg"),
        QUICK._replace(lrs=(3e-3,)),
    ),
    "places": StudySetting(
        tasks.two_tasks,
        places("deltanet_neg", "softmax_nope"),
        Recipe(800, key_dim=8, lrs=LOW_RATES),
        ("first", "last"),
        SHORT_RUN._replace(key_dim=8),
    ),
    "ratios": StudySetting(
        tasks.recall,
        ratios("gated_deltanet", "softmax_nope", depth=4)
        | {"3:1, softmax first": Stack(("softmax_nope", *("gated_deltanet",) * 3))},
        Recipe(1200, key_dim=4, lrs=LOW_RATES),
        ("all linear", "3:1", "all softmax"),
        SHORT_RUN._replace(key_dim=4),
    ),
    **HOP_STUDIES,
    "multi_turn": StudySetting(
        tasks.multi_turn,
        DEEP,
        Recipe(4000, key_dim=8, lrs=LOW_RATES),
        ("all linear", "3:1", "all softmax"),
        SHORT_RUN._replace(key_dim=8, batch_size=16),
    ),
    "history": StudySetting(
        tasks.history,
        THEN,
        INSIDE._replace(steps=500, lrs=HIGH_RATES, every_layer=False),
        ("all softmax", "all Gated DeltaNet"),
        INSIDE._replace(steps=500, lrs=(3e-3,), every_layer=False),
    ),
    "history_longer": StudySetting(
        tasks.history,
        THEN_LONGER,
        INSIDE._replace(steps=1500, lrs=(1e-2,), every_layer=False),
        ("all Gated DeltaNet",),
        INSIDE._replace(steps=500, lrs=(1e-2,), every_layer=False),
    ),
    "recall_by_parity": StudySetting(
        tasks.recall_by_parity,
        BY_PARITY,
        INSIDE,
        ("linear, softmax", "all softmax", "all linear, Dk 4"),
        INSIDE._replace(lrs=(3e-3,)),
    ),
}

# Studies from above, posed anew: their records stand beside the first ones.
FOUR = {name: ONE_LAYER[name] for name in ("softmax", "softmax_nope", "linear", "gated_deltanet")}
THREE_TWICE = {name: Stack((name, name)) for name in ("softmax", "softmax_nope", "gated_deltanet")}
MANY = {"recipe": Recipe(600, batch_size=16, lrs=RATES), "quick_recipe": QUICK._replace(batch_size=16)}
STUDIES |= {
    "state_size_solved": STUDIES["state_size"]._replace(models=BY_KEY_DIM_SOLVED, quick=tuple(BY_KEY_DIM_SOLVED)[:1]),
    "needle_many": STUDIES["needle"]._replace(task=partial(tasks.needle, questions=16), models=FOUR, **MANY),
    "induction_many": STUDIES["induction"]._replace(task=partial(tasks.induction, questions=16), models=FOUR, **MANY),
    "copying_fed_back": STUDIES["copying"]._replace(
        task=partial(tasks.copying, fed_back=True), models=THREE_TWICE, quick=("softmax", "gated_deltanet"), **MANY
    ),
    "permutations_3_long": STUDIES["permutations_3"]._replace(
        models={"deltanet_neg": TWO_LAYERS["deltanet_neg"]},
        recipe=STUDIES["permutations_5"].recipe,
        quick=("deltanet_neg",),
    ),
}
