"""Every tiny plan, through every implementation: they all compute the same network."""

from pathlib import Path

import numpy as np
import pytest
from cases import CASES, chain

from edgeticket import compact, reference
from edgeticket.calibration import calibrate
from edgeticket.model import Model
from edgeticket.ops import GlobalAveragePool, conv
from edgeticket.ticket import parse_ticket
from exporters import qdq, to_onnx
from exporters.weights import STORAGES


@pytest.fixture(params=CASES, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def ticket(name):
    return CASES[name].ticket()


@pytest.fixture(scope="module")
def model(ticket) -> Model:
    return compact.compact(ticket)


def require_all_equal(what, made, wanted, tolerance=reference.TOLERANCE):
    for a, b in zip(made, wanted, strict=True):
        reference.require_equal(what, a, b, tolerance)


def test_ticket_survives_its_file(ticket):
    assert parse_ticket(ticket.to_bytes()).to_bytes() == ticket.to_bytes()


def test_compact_is_the_masked_wide_network(name, ticket):
    compact.prove(ticket, CASES[name].raw())


def test_batches_change_nothing(name, model, monkeypatch):
    raw = CASES[name].raw(9)
    whole, ranges = reference.run_outputs(model, raw), calibrate(model, raw)
    monkeypatch.setattr(reference, "BATCH_ELEMENTS", 10_000)
    require_all_equal("in batches", reference.run_outputs(model, raw), whole, 1e-12)
    assert calibrate(model, raw) == ranges


@pytest.mark.parametrize(
    ("plan", "each"),
    [
        (chain((3, 96, 96), conv(16)), (3 + 16 + 3 * 9) * 96 * 96),
        (chain((16, 96, 96), conv(16, groups=16)), (16 + 16 + 9) * 96 * 96),
        (chain((3, 96, 96), GlobalAveragePool()), 3 * 96 * 96 + 3),
        (chain((64, 1024, 1024), GlobalAveragePool()), reference.BATCH_ELEMENTS),
    ],
)
def test_a_batch_is_what_fits(plan, each):
    """All tensors and one group's windows; one example where none fits."""
    size = reference.BATCH_ELEMENTS // each
    raw = np.broadcast_to(np.uint8(0), (2 * size + 1, *plan.inputs["x"]))
    assert [len(part["x"]) for part in reference.batches(plan, raw)] == [size, size, 1]


@pytest.mark.parametrize("multiple", [4, 8])
def test_aligned_channels_change_nothing(name, model, multiple):
    raw = CASES[name].raw()
    aligned = compact.align(model, multiple)
    require_all_equal("aligned", reference.run_outputs(aligned, raw), reference.run_outputs(model, raw), 1e-12)


def test_onnx_float(name, model, tmp_path: Path):
    """The reference to 1e-5, and the four storages bit for bit."""
    raw = CASES[name].raw()
    outputs = {}
    for storage in STORAGES:
        path = tmp_path / f"{storage}.onnx"
        to_onnx.export(model, path, weights=storage)
        outputs[storage] = to_onnx.run_outputs(path, raw)
    require_all_equal("ONNX", outputs["fp32"], reference.run_outputs(model, raw))
    for arrays in zip(*outputs.values(), strict=True):
        assert len({(array.dtype, array.shape, array.tobytes()) for array in arrays}) == 1


def test_onnx_int8(name, model, tmp_path: Path):
    """The written file runs, and is at most one code beside the specification in every layer."""
    raw = CASES[name].raw()
    path = tmp_path / "int8.onnx"
    to_onnx.export(model, path, precision="int8")
    assert all(np.isfinite(output).all() for output in to_onnx.run_outputs(path, raw))
    assert max(qdq.compare(model, raw).values()) <= 1


def test_torch(name, ticket, model):
    masked = pytest.importorskip("edgeticket.masked")
    raw = CASES[name].raw()
    made = masked.outputs(masked.of_ticket(ticket), raw, ticket.inputs)
    require_all_equal("torch", made, reference.run_outputs(model, raw))


# Compiled C joins here, one test with the fixtures above.
