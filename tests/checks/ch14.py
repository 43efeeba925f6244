"""Answers to the exercises of chapter 14: right ones, and wrong ones with a part of what the check says."""

from reference.kernels.emulation import tl


def masked_sums(g, G, T, C: tl.constexpr):
    t = tl.program_id(0) * C + tl.arange(0, C)
    x = tl.load(g + t, mask=t < T, other=0.0)
    tl.store(G + t, tl.cumsum(x, 0), mask=t < T)


def unmasked_store(g, G, T, C: tl.constexpr):
    t = tl.program_id(0) * C + tl.arange(0, C)
    tl.store(G + t, tl.cumsum(tl.load(g + t, mask=t < T, other=0.0), 0))


def unmasked_load(g, G, T, C: tl.constexpr):
    t = tl.program_id(0) * C + tl.arange(0, C)
    tl.store(G + t, tl.cumsum(tl.load(g + t), 0), mask=t < T)


def copies(g, G, T, C: tl.constexpr):
    t = tl.program_id(0) * C + tl.arange(0, C)
    tl.store(G + t, tl.load(g + t, mask=t < T, other=0.0), mask=t < T)


def one_sum(g, G, T, C: tl.constexpr):
    t = tl.program_id(0) * C + tl.arange(0, C)
    tl.store(G + t, tl.sum(tl.load(g + t, mask=t < T, other=0.0), 0), mask=t < T)


def does_nothing(g, G, T, C: tl.constexpr):
    tl.program_id(0)


def every_program_everything(g, G, T, C: tl.constexpr):
    t = tl.arange(0, 16)
    tl.store(G + t, tl.cumsum(tl.load(g + t, mask=t < T, other=0.0), 0), mask=t < T)


def carry(kind):
    def my_carry(k, u, g, last, T, DK: tl.constexpr, DV: tl.constexpr, C: tl.constexpr):
        r, i, j = tl.arange(0, C), tl.arange(0, DK), tl.arange(0, DV)
        S = tl.zeros([DK, DV], tl.float32)
        for t in range(0, T, C):
            live = t + r < T
            K = tl.load(k + (t + r)[:, None] * DK + i[None, :], mask=live[:, None], other=0.0)
            U = tl.load(u + (t + r)[:, None] * DV + j[None, :], mask=live[:, None], other=0.0)
            x = tl.load(g + t + r, mask=live, other=0.0)
            G, end = tl.cumsum(x, 0), tl.sum(x, 0)
            fade = {"since": tl.exp(G), "none": tl.exp(0 * G)}.get(kind, tl.exp(end - G))
            old = {"whole": 1.0, "last": 0.0}.get(kind, tl.exp(end))
            S = old * S + tl.dot(tl.trans(K * fade[:, None]), U, input_precision="ieee")
        tl.store(last + i[:, None] * DV + j[None, :], S)

    return my_carry


def writes_no_state(k, u, g, last, T, DK: tl.constexpr, DV: tl.constexpr, C: tl.constexpr):
    tl.load(k)


def group_sum(kind):
    def my_group_sum(parts, dk, T, H, GROUP: tl.constexpr, D: tl.constexpr):
        h = tl.program_id(0)
        d = tl.arange(0, D)
        for t in range(T):
            at = dk + (t * H + h) * D + d
            total = tl.load(at) if kind == "from before" else tl.zeros([D], tl.float32)
            for n in range(GROUP):
                part = tl.load(parts + ((t * H + h) * GROUP + n) * D + d)
                total = part if kind == "last" else total + part
            if kind == "first":
                total = tl.load(parts + (t * H + h) * GROUP * D + d)
            tl.store(at, total)

    return my_group_sum


def block(heads, DV, processors, least=16):
    size = DV
    while size > least and heads * DV // size < processors:
        size //= 2
    return size


RIGHT = {
    "14.1": masked_sums,
    "14.2": carry("right"),
    "14.3": "a",
    "14.4": group_sum("right"),
    "14.5": block,
}

WRONG = [
    ("14.1", unmasked_store, "program (2,) writes G at 11"),
    ("14.1", unmasked_load, "program (2,) reads g at 11"),
    ("14.1", copies, "You copied g"),
    ("14.1", one_sum, "as a whole"),
    ("14.1", does_nothing, "Nothing was written"),
    ("14.1", every_program_everything, "Two programs meet"),
    ("14.2", carry("since"), "not e^{G_s}"),
    ("14.2", carry("none"), "doesn't fade: e^{G_C - G_s}"),
    ("14.2", carry("whole"), "e^{G_C} is missing"),
    ("14.2", carry("last"), "Only the last chunk"),
    ("14.2", writes_no_state, "Nothing was written"),
    ("14.3", "b", "Reading together"),
    ("14.3", "c", "run in order"),
    ("14.3", "d", "Ask who writes"),
    ("14.4", group_sum("from before"), "Start from zeros"),
    ("14.4", group_sum("last"), "Only one head"),
    ("14.4", group_sum("first"), "Only the first head"),
    ("14.4", lambda parts, dk, T, H, GROUP, D: tl.load(parts), "Nothing was written"),
    ("14.5", lambda heads, DV, processors: 64 if heads == 64 else block(heads, DV, processors), "stay idle"),
    ("14.5", lambda heads, DV, processors: 16, "does too"),
    ("14.5", lambda heads, DV, processors: block(heads, DV, processors, 1), "tl.dot needs 16"),
]
