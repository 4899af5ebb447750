"""Networks by name against the published ones, and at sizes, widths and dimensions of other inputs."""

import pytest
from cases import Case, chain

from edgeticket import plugins
from edgeticket.architectures._layers import same, shrink
from edgeticket.compact import compact, prove
from edgeticket.errors import UnsupportedError, UsageError
from edgeticket.plan import Plan

Shape = tuple[int, ...]

# Counted in the trained models of github.com/mlcommons/tiny (commit 1afd2c98, benchmark/training/*/trained_models), which prints
# no such figures for most of them: weights, biases (one a filter) and multiply-accumulates (a filter's weights times its positions)
# over the operators of the .tflite; Keras' "Total params" over the arrays of the .h5. For ds-cnn, which has no .h5, that total is
# printed in the README of github.com/dmorn/mlperf-jetson. A batch norm has four values a filter: gain, shift, mean, variance.
PUBLISHED = {  # weights, biases, MACs, Keras parameters
    "resnet8": (77_360, 346, 12_501_632, 78_666),  # image_classification/.../pretrainedResnet
    "ds-cnn": (22_016, 588, 2_656_768, 24_908),  # keyword_spotting/.../kws_ref_model
    "mobilenet-v1-025": (208_112, 2_738, 7_489_664, 221_794),  # visual_wake_words/.../vww_96
    "autoencoder": (264_192, 1_672, 264_192, 269_992),  # anomaly_detection/.../ad01
    "streaming-wakeword": (46_040, 843, 826_368, 47_707),  # streaming_wakeword/.../str_ww_ref_model
}
SMALL: dict[str, Shape] = {  # inputs on which all of a network is quick
    "resnet8": (3, 9, 8),
    "ds-cnn": (1, 20, 10),
    "mobilenet-v1-025": (3, 17, 16),
    "autoencoder": (2, 5, 6),
    "streaming-wakeword": (13, 31),
    "wave": (3, 200),
}


def network(name: str, *widths: int, input: Shape | None = None, classes: int | None = None) -> Plan:
    """Of the published input and classes, unless others are given."""
    module = plugins.load("architectures", name)
    return module.plan(*widths, input=input or module.INPUT, classes=classes or module.CLASSES)


@pytest.mark.parametrize("name", PUBLISHED)
def test_figures_are_the_published_ones(name):
    plan = network(name)
    weights, biases, macs, parameters = PUBLISHED[name]
    widths = plan.widths()
    assert sum(plan.weights().values()) == weights
    assert sum(widths.values()) == biases
    assert sum(plan.macs().values()) == macs
    normalised = sum(widths[layer.name] for layer in plan.weighted() if layer.op.norm)
    if name == "streaming-wakeword":  # use_bias=False in its convolutions; the .tflite has biases nevertheless
        biases = widths["head"]
    assert weights + biases + 4 * normalised == parameters


def test_the_figures_that_a_report_prints():
    """Beside the reference submission: sww_ref_l4r5zi/X-CUBE-AI/App/sww_model_generate_report.txt, "params #" and "macc".

    It counts a bias as a parameter and, once a filter, as a multiply-accumulate; 45 more are the softmax.
    """
    plan = network("streaming-wakeword")
    filters = sum(plan.widths().values())
    assert sum(plan.weights().values()) + filters == 46_883
    assert sum(plan.macs().values()) + filters + 45 == 827_256
    frames = [plan.shapes[f"block{i}_pointwise"] for i in (1, 2, 3, 4)]
    assert frames == [(128, 28), (128, 24), (128, 15), (32, 1)]


def test_shapes_of_the_published_models():
    assert network("ds-cnn").shapes["stem"] == (64, 25, 5)
    assert network("mobilenet-v1-025").shapes["block13_pointwise"] == (256, 3, 3)
    assert network("resnet8").shapes["block3_add"] == (64, 8, 8)
    plan = network("autoencoder")
    assert list(plan.widths().values()) == [128, 128, 128, 128, 8, 128, 128, 128, 128, 640]


def test_padding_is_what_tensorflow_calls_same():
    """Total (ceil(n / s) - 1) * s + k - n, the odd one at the end: with the pads turned round the published weights answer wrongly."""
    assert network("ds-cnn")["stem"].op.pad == (4, 1, 5, 1)
    assert network("mobilenet-v1-025")["stem"].op.pad == (0, 0, 1, 1)
    assert network("resnet8")["block2_conv1"].op.pad == (0, 0, 1, 1)
    assert network("resnet8")["block2_shortcut"].op.pad == (0, 0, 0, 0)
    assert network("resnet8", input=(1, 7, 7))["block2_conv1"].op.pad == (1, 1, 1, 1)
    for kernel in range(1, 12):
        for stride in range(1, 5):
            for length in range(1, 25):
                op = same(4, kernel, stride, (length,))
                assert chain((2, length), op).shapes["l0"][1:] == shrink((length,), stride)
                assert op.pad[1] - op.pad[0] in (0, 1)


@pytest.mark.parametrize("name", ["resnet8", "ds-cnn", "mobilenet-v1-025"])
@pytest.mark.parametrize("input", [(1, 28, 28), (3, 7, 5), (2, 1, 1), (1, 512), (3, 33)])
def test_other_inputs(name, input):
    plan = network(name, input=input, classes=7)
    assert plan.shapes["head"] == (7,)
    assert plan.weights()["head"] == network(name).weights()["head"] // plugins.load("architectures", name).CLASSES * 7


def test_wave_takes_axes_and_samples():
    for input in ((1, 1024), (1, 512), (3, 1024), (6, 100)):
        assert network("wave", input=input).shapes["head"] == (4,)
    plan = network("wave")
    assert plan.shapes["stem"] == (16, 128)
    assert (sum(plan.weights().values()), sum(plan.macs().values())) == (34_048, 884_992)  # as the module says
    learned = plan.weights()["stem"] + plan.weights()["head"]
    assert learned <= 0.05 * sum(plan.weights().values())  # so both stay learned by default


def test_an_autoencoder_flattens_and_gives_the_input_back():
    plan = network("autoencoder", 64, 4, input=(1, 28, 28), classes=10)
    assert list(plan.widths().values()) == [64, 4, 64, 784]
    assert plan.outputs == ("head",)
    assert list(network("autoencoder", 32, 16, 4, input=(9,)).widths().values()) == [32, 16, 4, 16, 32, 9]
    assert network("autoencoder", 16, input=(9,)).widths() == {"code": 16, "head": 9}


def test_widths():
    assert set(network("ds-cnn", 16).widths().values()) == {16, 12}
    assert max(network("mobilenet-v1-025", 16).widths().values()) == 512
    assert network("streaming-wakeword", 64, 64, input=(13, 20)).shapes["block2_pointwise"] == (64, 14)
    assert network("wave", 8, 24).widths() == {"stem": 8, "conv1": 24, "head": 4}
    for name in ("ds-cnn", "mobilenet-v1-025", "streaming-wakeword"):
        with pytest.raises(UsageError, match=f"{name} takes at most .* for example {name}:"):
            network(name, 8, 8, 8, 8, 8)


@pytest.mark.parametrize(
    ("name", "input"),
    [
        ("streaming-wakeword", (40, 29)),
        ("streaming-wakeword", (1, 49, 10)),
        ("wave", (1, 28, 28)),
        ("wave", (9,)),
        ("resnet8", (9,)),
        ("ds-cnn", (9,)),
        ("mobilenet-v1-025", (9,)),
    ],
)
def test_an_input_that_does_not_fit(name, input):
    with pytest.raises(UnsupportedError, match=r"^layer (stem|block4_depthwise|block1_depthwise) \(Conv, input "):
        network(name, input=input)


@pytest.mark.parametrize("name", SMALL)
def test_compacted_equals_masked(name):
    case = Case(network(name, input=SMALL[name]), keep=0.5)
    ticket = case.ticket()
    assert prove(ticket, case.raw(2)) < 1e-12
    assert sum(compact(ticket).plan.macs().values()) < 0.5 * sum(case.plan.macs().values())
