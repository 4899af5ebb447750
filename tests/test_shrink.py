"""Narrowing while a search runs: to widths, to a budget, within it, in units, above the floor, and where it costs least."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace

import numpy as np
import pytest
from cases import CASES, chain, graph
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from edgeticket.architectures import mobilenet_v1_025, resnet8
from edgeticket.budget import Budget, Cost, Verdict
from edgeticket.cost import Estimator, PacketEstimate
from edgeticket.errors import BudgetError
from edgeticket.masked import Choices, MaskedNet
from edgeticket.ops import Add, GlobalAveragePool, Linear, conv
from edgeticket.plan import Kept, Plan
from edgeticket.search._shrink import _Allocation, lowest, schedule, widths_for
from edgeticket.settings import Settings
from edgeticket.stand_in import Chosen, Outlines

RESNET8 = resnet8.plan(16, 32, 64, input=(1, 28, 28), classes=10)
ODD = chain((1, 6, 6), conv(20), conv(27), conv(10), GlobalAveragePool(), Linear(4))
THREE = chain((1, 8, 8), conv(32), conv(32, stride=2), conv(32, stride=2), GlobalAveragePool(), Linear(4))
PLANS = {
    name: CASES[name].plan
    for name in ("depthwise", "concat", "slices, shuffle and grouped", "u-net", "attention by broadcast")
}
PLANS |= {"resnet8": RESNET8, "three": THREE, "odd": ODD}


def net_of(plan: Plan) -> MaskedNet:
    every = dict.fromkeys(plan.weights(), 1)
    return MaskedNet(plan, 0, Choices(dict.fromkeys(every, 0.5), every, frozenset()))


def estimator(plan: Plan, budget: Budget) -> Estimator:
    every = dict.fromkeys(plan.weights(), 1)
    given = Chosen(dict.fromkeys(every, 0.5), every)
    outlines = Outlines(plan, given) if set(budget.targets) - {"", "cpu"} else None
    return Estimator(budget, given, outlines, PacketEstimate(plan, given) if budget.has("packet_bytes") else None)


def toy(cost: Callable[[Mapping[str, int]], float], limit: float) -> Callable[[Plan], tuple[Verdict, ...]]:
    """A budget of one term, of which `cost` says what some widths take."""
    budget = Budget.parse(f"macs={limit}")
    return lambda plan: budget.judge([Cost("", "estimated", macs=cost(plan.widths()))])


def narrowed(net: MaskedNet, importance: np.ndarray, goal, chosen: Settings | None = None, prepare=None) -> list[Kept]:
    """What is kept after each shrink; the net has shrunk. `importance`: the same, or another one for each."""
    shrinks = sorted(schedule(SimpleNamespace(net=net, total=1000), chosen or Settings(), goal, prepare).items())
    found = []
    for (_, narrow), own in zip(
        shrinks, np.broadcast_to(importance, (len(shrinks), net.wide.channel_ids)), strict=True
    ):
        found.append(narrow(net, own))
        net.shrink(found[-1], {})
    return found


def widths(kept: Kept) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in kept.items()}


def ratios(judge: Callable[[Plan], tuple[Verdict, ...]], plan: Plan) -> np.ndarray:
    return np.array([verdict.ratio for verdict in judge(plan)])


def narrowest(plan: Plan, chosen: Settings) -> Plan:
    floors = lowest(chosen, plan)
    return plan.narrow(plan.fill({n: np.arange(len(plan.groups[n].ids)) < width for n, width in floors.items()}))


# to widths


@pytest.mark.parametrize("keep", [0.25, 0.5])
def test_keep_ends_at_its_widths_in_three_steps(keep: float) -> None:
    net, chosen = net_of(RESNET8), Settings(keep=keep)
    assert list(schedule(SimpleNamespace(net=net, total=1000), chosen)) == [50, 62, 75]
    found = [widths(kept) for kept in narrowed(net, np.arange(RESNET8.channel_ids) * 1.0, None, chosen)]
    assert found[-1] == chosen.targets(RESNET8)
    assert found[0]["block3_conv1"] == {0.25: 40, 0.5: 48}[keep]  # 64 * keep^(1/3), in eights


def test_nothing_leaves_where_nothing_has_to() -> None:
    assert schedule(SimpleNamespace(net=net_of(ODD), total=1000), Settings()) == {}
    job = SimpleNamespace(net=net_of(RESNET8), total=1000)
    assert schedule(job, Settings(), {name: len(kept) for name, kept in job.net.kept.items()}) == {}
    assert schedule(job, Settings(), estimator(RESNET8, Budget.parse("macs=1G")).judge) == {}
    assert list(schedule(SimpleNamespace(net=job.net, total=2), Settings(keep=0.5))) == [1]


def test_given_widths_are_reached() -> None:
    net = net_of(THREE)
    narrowed(net, np.ones(THREE.channel_ids), {"l0": 8, "l1": 32, "l2": 16})
    assert widths(net.kept) == {"l0": 8, "l1": 32, "l2": 16}


# to a budget


@settings(deadline=None, max_examples=10)
@given(
    st.sampled_from(sorted(PLANS)),
    st.lists(st.sampled_from(["kept_macs", "macs", "ram", "packet"]), min_size=1, max_size=2, unique=True),
    st.floats(0.02, 0.9),
    st.sampled_from([1, 4, 8, 6]),
    st.integers(0, 1000),
)
def test_within_the_budget_above_the_floor_in_units(
    name: str, words: list[str], share: float, align: int, seed: int
) -> None:
    plan, chosen = PLANS[name], Settings(align=align)
    everything = Budget.parse(",".join(f"{word}=1" for word in words))
    high, low = (ratios(estimator(plan, everything).judge, each) for each in (plan, narrowest(plan, chosen)))
    limits = [int(np.ceil(b + (a - b) * share)) for a, b in zip(high, low, strict=True)]
    judge = estimator(plan, Budget.parse(",".join(f"{w}={n}" for w, n in zip(words, limits, strict=True)))).judge
    assume((ratios(judge, plan) > 1).any())
    importance = np.random.default_rng(seed).exponential(size=(3, plan.channel_ids)) ** 3
    net, again = net_of(plan), net_of(plan)
    found = narrowed(net, importance, judge, chosen)
    assert (ratios(judge, net.plan) <= 1).all()
    floors, units = lowest(chosen, plan), chosen.units(plan)
    for group, width in widths(net.kept).items():
        assert width >= floors[group]
        size = len(plan.groups[group].ids)
        if "slices" not in name:  # where a channel more may stay for a slice's sake
            assert width == size or width % units[group] == 0
    for later, earlier in zip(found[1:], found, strict=False):
        assert not any((later[group] & ~earlier[group]).any() for group in later)
    assert [widths(kept) for kept in narrowed(again, importance, judge, chosen)] == [widths(kept) for kept in found]


def test_each_shrink_is_a_third_of_the_way() -> None:
    net, goal = net_of(RESNET8), estimator(RESNET8, Budget.parse("kept_macs=700K")).judge
    first = ratios(goal, RESNET8)
    for share, narrow in zip(
        (1 / 3, 2 / 3, 1), schedule(SimpleNamespace(net=net, total=1000), Settings(align=1), goal).values(), strict=True
    ):
        net.shrink(narrow(net, np.ones(RESNET8.channel_ids)), {})
        assert 0.9 < (ratios(goal, net.plan) / first ** (1 - share))[0] <= 1


@pytest.mark.parametrize("seed", range(5))
def test_steps_end_where_one_step_would(seed: int) -> None:
    """While importance stays as it is: no step takes what the whole way would keep."""
    judge, rng = estimator(THREE, Budget.parse("kept_macs=60K")).judge, np.random.default_rng(seed)
    importance = rng.exponential(size=THREE.channel_ids)
    for group in THREE.groups.values():
        importance[group.ids] *= 10 ** rng.uniform(-1, 1)
    steps, once = net_of(THREE), net_of(THREE)
    narrowed(steps, importance, judge)
    last = list(schedule(SimpleNamespace(net=once, total=1000), Settings(), judge).values())[-1]
    assert widths(last(once, importance)) == widths(steps.kept)


def test_a_resumed_search_narrows_alike() -> None:
    """Of a net that was narrowed by a checkpoint, as one that was narrowed by the schedule."""
    judge = estimator(RESNET8, Budget.parse("kept_macs=1M,ram=24K")).judge
    importance = np.random.default_rng(0).exponential(size=RESNET8.channel_ids)
    whole, resumed = net_of(RESNET8), net_of(RESNET8)
    first, *others = narrowed(whole, importance, judge)
    resumed.shrink(first, {})
    last = list(schedule(SimpleNamespace(net=net_of(RESNET8), total=1000), Settings(), judge).values())[1:]
    for narrow, expected in zip(last, others, strict=True):
        kept = narrow(resumed, importance)
        assert all((kept[name] == expected[name]).all() for name in kept)
        resumed.shrink(kept, {})


def test_the_least_important_channels_leave() -> None:
    net, importance = net_of(THREE), np.random.default_rng(2).permutation(THREE.channel_ids) * 1.0
    (*_, kept) = narrowed(net, importance, estimator(THREE, Budget.parse("kept_macs=100K")).judge)
    for name, mask in kept.items():
        own = importance[THREE.groups[name].ids]
        assert mask.all() or own[mask].min() > own[~mask].max()


def test_a_group_whose_removal_saves_nothing_stays() -> None:
    net = net_of(THREE)
    importance = np.ones(THREE.channel_ids)
    importance[THREE.groups["l1"].ids] = 1e-9  # worth nothing, but free
    narrowed(net, importance, toy(lambda width: width["l0"] + width["l2"], 24))
    assert widths(net.kept)["l1"] == 32
    assert widths(net.kept)["l0"] + widths(net.kept)["l2"] == 24


def test_a_term_that_is_met_gives_no_reason() -> None:
    """The stem fills most of the RAM and few of the bytes, and is worth the most: it leaves only where RAM is exceeded."""
    importance, left = np.ones(RESNET8.channel_ids), {}
    importance[RESNET8.groups["stem"].ids] = 20
    for budget in ("packet=8K", "packet=8K,ram=1M", "packet=8K,ram=24K"):
        net = net_of(RESNET8)
        narrowed(net, importance, estimator(RESNET8, Budget.parse(budget)).judge)
        left[budget] = widths(net.kept)
    assert left["packet=8K,ram=1M"] == left["packet=8K"]
    assert left["packet=8K,ram=24K"]["stem"] < left["packet=8K"]["stem"]


def test_groups_that_save_only_together_leave_together() -> None:
    """The larger of two counts; l1 is as cheap as nothing, and worth the least."""
    net, importance = net_of(THREE), np.ones(THREE.channel_ids)
    importance[THREE.groups["l1"].ids] = 0
    narrowed(net, importance, toy(lambda width: max(width["l0"], width["l2"]), 16))
    assert widths(net.kept) == {"l0": 16, "l1": 32, "l2": 16}


def test_of_groups_that_save_together_no_other_leaves() -> None:
    """In one step, too; and none below its floor."""
    net, floors = net_of(THREE), dict.fromkeys(THREE.widths(), 8)
    goal = toy(lambda width: max(width["l0"], width["l2"]), 16)
    step = _Allocation(net, np.ones(THREE.channel_ids), goal, [1.0], dict.fromkeys(floors, 8), floors, None)
    assert step.together(widths(net.kept)) == {"l0": 24, "l1": 32, "l2": 24}
    assert step.less({"l0": 16, "l1": 32, "l2": 24}, "l1", 5)["l1"] == 8


def test_what_is_worth_more_leaves_where_it_saves_more_for_its_worth() -> None:
    """A unit of l0 is worth 1 and saves 10, one of l1 0.4 and 3; of these, three would be needed."""
    net, importance = net_of(THREE), np.ones(THREE.channel_ids)
    importance[THREE.groups["l1"].ids] = 0.4
    narrowed(net, importance, toy(lambda width: 10 * width["l0"] + 3 * width["l1"], 8 * 43))
    assert widths(net.kept) == {"l0": 24, "l1": 32, "l2": 32}


def test_costs_in_stairs_are_taken_a_stair_at_a_time() -> None:
    """Channels are padded to eights: one channel less saves nothing, and the less important group gives a whole stair."""
    net, importance = net_of(THREE), np.ones(THREE.channel_ids)
    importance[THREE.groups["l0"].ids] = 2
    goal = toy(lambda width: sum(-(-width[name] // 8) for name in ("l0", "l1", "l2")), 11)
    narrowed(net, importance, goal, Settings(align=1))
    assert sorted(widths(net.kept).values()) == [24, 32, 32]
    assert widths(net.kept)["l0"] == 32


def test_what_still_fits_is_given_back() -> None:
    """l1 leaves first, being worth less for what it saves, but what l0 then saves at once makes that needless."""
    net, importance = net_of(THREE), np.ones(THREE.channel_ids)
    importance[THREE.groups["l1"].ids] = 0.05
    narrowed(net, importance, toy(lambda width: 10 * width["l0"] + width["l1"], 8 * 34))
    assert widths(net.kept) == {"l0": 24, "l1": 32, "l2": 32}


def test_tied_channels_leave_every_layer_at_once() -> None:
    """Stem and sum are one group over the residual: its cost is of all of them."""
    plan = graph(
        (1, 8, 8),
        ("stem", conv(32), "x"),
        ("a", conv(32), "stem"),
        ("sum", Add(), "a stem"),
        ("mean", GlobalAveragePool(), "sum"),
        ("fc", Linear(3), "mean"),
    )
    net = net_of(plan)
    narrowed(net, np.ones(plan.channel_ids), estimator(plan, Budget.parse("kept_macs=100K")).judge)
    assert net.plan.widths()["stem"] == net.plan.widths()["a"] < 32


def test_costs_of_the_next_step_can_be_measured_at_once() -> None:
    """Every candidate that is judged was announced, in batches."""
    judge, announced, judged = estimator(THREE, Budget.parse("kept_macs=60K")).judge, [], []
    plain, watched = net_of(THREE), net_of(THREE)
    narrowed(plain, np.ones(THREE.channel_ids), judge)
    narrowed(
        watched, np.ones(THREE.channel_ids), lambda plan: judged.append(plan) or judge(plan), prepare=announced.append
    )
    assert widths(plain.kept) == widths(watched.kept)
    ends = THREE, narrowest(THREE, Settings())
    known = {str(plan.widths()) for plans in (*announced, ends) for plan in plans}
    assert {str(plan.widths()) for plan in judged} <= known
    assert max(map(len, announced)) == 3


def test_greedy_keeps_more_of_what_matters_than_uniform_scaling() -> None:
    """Importance of groups differs by up to 100 times: at one budget more of it stays, for every draw."""
    judge = estimator(RESNET8, Budget.parse("kept_macs=1500K")).judge
    chosen = Settings(align=1)
    uniform = widths_for(RESNET8, judge, chosen.units(RESNET8), lowest(chosen, RESNET8))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        importance = rng.exponential(size=RESNET8.channel_ids)
        for group in RESNET8.groups.values():
            importance[group.ids] *= 10 ** rng.uniform(-1, 1)
        left = {}
        for name, goal in (("greedy", judge), ("uniform", uniform)):
            net = net_of(RESNET8)
            narrowed(net, importance, goal, chosen)
            assert (ratios(judge, net.plan) <= 1).all()
            left[name] = sum(importance[RESNET8.groups[group].ids][kept].sum() for group, kept in net.kept.items())
        assert left["greedy"] > 1.03 * left["uniform"]


# uniform


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("align", [1, 8])
def test_uniform_widths_are_the_largest_that_fit(name: str, align: int) -> None:
    plan, chosen = PLANS[name], Settings(align=align)
    units, floors = chosen.units(plan), lowest(chosen, plan)
    high, low = (
        ratios(estimator(plan, Budget.parse("macs=1")).judge, each)[0] for each in (plan, narrowest(plan, chosen))
    )
    judge = estimator(plan, Budget.parse(f"macs={int(low + (high - low) / 3)}")).judge

    def plan_of(found: Mapping[str, int]) -> Plan:
        return plan.narrow(plan.fill({n: np.arange(len(plan.groups[n].ids)) < width for n, width in found.items()}))

    found = widths_for(plan, judge, units, floors)
    assert (ratios(judge, plan_of(found)) <= 1).all()
    sizes = {group: len(plan.groups[group].ids) for group in units}
    by_keep = [
        {g: min(n, max(floors[g], int(keep * n / units[g] + 0.5) * units[g])) for g, n in sizes.items()}
        for keep in np.linspace(0, 1, 2000)
    ]
    different = {tuple(each.values()): each for each in by_keep}.values()
    fit = [each for each in different if (ratios(judge, plan_of(each)) <= 1).all()]
    assert found == fit[-1]


def test_uniform_widths_are_all_where_all_fit() -> None:
    chosen = Settings()
    plan = chain((1, 8, 8), conv(20), conv(10), GlobalAveragePool(), Linear(4))
    judge = estimator(plan, Budget.parse("macs=1G")).judge
    assert widths_for(plan, judge, chosen.units(plan), lowest(chosen, plan)) == {"l0": 20, "l1": 10}


def test_floors() -> None:
    """Eight channels, or the next multiple of --align, or all there are; an id may be several channels."""
    plan = CASES["depthwise"].plan
    assert lowest(Settings(align=1), THREE) == dict.fromkeys(("l0", "l1", "l2"), 8)
    assert lowest(Settings(align=6), THREE) == dict.fromkeys(("l0", "l1", "l2"), 12)
    assert lowest(Settings(align=16), THREE) == dict.fromkeys(("l0", "l1", "l2"), 16)
    assert set(lowest(Settings(align=16), plan).values()) <= {8, 12}


def test_a_budget_that_cannot_be_met_says_what_the_least_is() -> None:
    chosen, judge = Settings(), estimator(RESNET8, Budget.parse("macs=1G,ram=4K,packet=100")).judge
    least = {verdict.term.resource: verdict for verdict in judge(narrowest(RESNET8, chosen))}
    with pytest.raises(BudgetError) as error:
        widths_for(RESNET8, judge, chosen.units(RESNET8), lowest(chosen, RESNET8))
    assert least["ram_bytes"].text() in str(error.value)
    assert least["packet_bytes"].text() in str(error.value)
    assert "macs" not in str(error.value)
    assert "raise it" in str(error.value)
    assert error.value.exit_code == 3
    with pytest.raises(BudgetError, match="ram=4K"):
        schedule(SimpleNamespace(net=net_of(RESNET8), total=1000), Settings(), judge)


@pytest.mark.slow
def test_a_network_of_many_groups_is_narrowed_alike_everywhere() -> None:
    """27 layers, 14 groups, two terms: that it takes seconds is the test's own time."""
    plan = mobilenet_v1_025.plan(8, input=(3, 96, 96), classes=2)
    net, judge = net_of(plan), estimator(plan, Budget.parse("instructions=8M@cortex-m4,packet=20K")).judge
    narrowed(net, np.random.default_rng(0).exponential(size=plan.channel_ids), judge)
    assert (ratios(judge, net.plan).max() > 0.9) <= 1
