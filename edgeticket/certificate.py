"""What a construction proves, layer by layer, and what data show of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeticket import bounds
from edgeticket.construct import PRODUCT, Construction, Pair, Settings
from edgeticket.data import PARTS, Data
from edgeticket.errors import EquivalenceError, TicketError
from edgeticket.prng import GENERATOR
from edgeticket.relu_network import outputs
from edgeticket.text import columns

FORMAT = "edgeticket-construction-1"


def certify(construction: Construction) -> dict[str, Any]:
    """The certificate as plain JSON values. For every input x, with x' = (x, 1) and y the network divided by `scale`:

    |y(x) - random subnetwork(x)| <= bound * |x'|. For a layer A (norm 1) whose random pair computes P max(x, 0) + N min(x, 0), an
    error e of its input grows to e + |E| (1 + e), with |E| the spectral norm of (P - A, N - A), or of P - A where inputs
    are never negative. Raises TicketError where a mask is not of exact subsets.
    """
    settings, layers, bound = construction.settings, [], 0.0
    for i, ((matrix, pair), mask) in enumerate(zip(construction.pairs, construction.masks, strict=True)):
        layer = _layer(matrix, pair, mask, settings, signed=i == 0)
        bound += layer["norm_of_errors"] * (1 + bound)
        layers.append(layer | {"bound": bound})
    total = {name: sum(layer[name] for layer in layers) for name in ("sums", "failures", "start", "kept")}
    return {
        "format": FORMAT,
        "generator": GENERATOR,
        "seed": settings.seed,
        "eps": settings.eps,
        "n": settings.n,
        "k": settings.k,
        "layers": layers,
        "bound": bound,
        "scale": construction.target.homogeneous()[1],
        "target_parameters": construction.target.parameters,
        **total,
        "density": total["kept"] / total["start"],
        "theorems_at_c_1": _theorems(construction),
    }


def _theorems(construction: Construction) -> dict[str, Any] | None:
    """What Theorems 2 and 3 and Corollary 1 ask for at this density and eps; None above density 1/2. See edgeticket.bounds."""
    settings = construction.settings
    density = settings.k / settings.n
    if density > 0.5:
        return None
    shapes = [matrix.shape for matrix, _ in construction.pairs]
    layers = [bounds.Matrix(f"layer{i}", shape[1], shape[0]) for i, shape in enumerate(shapes, 1)]
    upper = bounds.upper(layers, density, settings.eps)
    return {
        "theorem_2_n": bounds.one_target(density, settings.eps),
        "corollary_1_n": bounds.all_targets(density, settings.eps),
        "theorem_3_n": [each.n for each in upper],
        "theorem_3_start": sum(each.start for each in upper),
    }


def _layer(matrix: np.ndarray, pair: Pair, mask: np.ndarray, settings: Settings, *, signed: bool) -> dict[str, Any]:
    _require_subsets(matrix, pair, mask, settings.k)
    products, blocks = pair.products() * mask, (*matrix.shape, 2 * pair.n)
    halves = [
        np.where((pair.first > 0) == positive, products, 0).reshape(blocks).sum(2) / PRODUCT
        for positive in (True, False)
    ]
    errors = np.stack([half - matrix for half in halves])
    outside = np.abs(errors) >= settings.eps
    return {
        "inputs": matrix.shape[1],
        "outputs": matrix.shape[0],
        "sums": 2 * int(np.count_nonzero(matrix)),
        "failures": int(outside.sum()),
        "largest_error": float(np.abs(errors).max()),
        "norm_of_errors": float(np.linalg.norm(np.concatenate(errors[: 1 + signed], axis=1), 2)),
        "start": len(pair.first) * sum(matrix.shape),
        "kept": int(mask.sum() + mask.any(0).sum()),
    }


def _require_subsets(matrix: np.ndarray, pair: Pair, mask: np.ndarray, k: int) -> None:
    """Raise TicketError unless every weight but 0 has k neurons of its pool for each sign, or none where the pool is smaller."""
    rest = mask.copy()
    for j, pool in pair.pools():
        expected = k * (matrix[:, j] != 0) * (len(pool) >= k)
        if (mask[:, pool].sum(1) != expected).any():
            raise TicketError(f"input {j}: a weight is not the sum of exactly {k} random ones: construct it again")
        rest[:, pool] = False
    if rest.any():
        raise TicketError("a weight is kept that belongs to no sum: construct it again")


def certified(construction: Construction, data: Data | None = None) -> dict[str, Any]:
    """The certificate and, under `observed`, what `data` shows. Raises EquivalenceError where an error is above its bound."""
    found = certify(construction)
    if data is None:
        return found
    observed = observe(construction, data)
    _require_valid(found, observed)
    return found | {"observed": observed}


def observe(construction: Construction, data: Data) -> dict[str, Any]:
    """The largest error after each layer over all examples of `data`, in the certificate's unit, and how many classes agree.

    Raises DataError where the examples do not fit the target.
    """
    x = np.concatenate([construction.target.examples(getattr(data, part)[0]) for part in PARTS])
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    ours, wanted = construction.outputs(x), outputs(construction.target.homogeneous()[0], x)
    return {
        "data": data.name,
        "digest": data.digest,
        "examples": len(x),
        "largest_errors": [float(np.linalg.norm(a - b, axis=1).max()) for a, b in zip(ours, wanted, strict=True)],
        "largest_output": float(np.linalg.norm(wanted[-1], axis=1).max()),
        "same_class": int((ours[-1].argmax(1) == wanted[-1].argmax(1)).sum()),
    }


def _require_valid(certificate: Mapping[str, Any], observed: Mapping[str, Any]) -> None:
    """Raise EquivalenceError where an error is larger than its bound."""
    for i, (layer, error) in enumerate(zip(certificate["layers"], observed["largest_errors"], strict=True), 1):
        if not error <= layer["bound"]:
            raise EquivalenceError(
                f"layer {i}: an error of {error:g} on {observed['data']}, above the bound {layer['bound']:g}"
            )


def text(certificate: Mapping[str, Any]) -> str:
    """What `edgeticket construct` prints."""
    told = certificate
    lines = [
        f"target: {told['target_parameters']:,} parameters; exactly {told['k']} of {told['n']} for each weight and sign, "
        f"eps {told['eps']:g}, seed {told['seed']}",
        f"random network: {told['start']:,} parameters, of which {told['kept']:,} stay: density {told['density']:.3g}",
        *_layers(told),
        f"{told['failures']:,} of {told['sums']:,} sums are off by eps or more",
        f"for every input x: error <= {told['bound']:.4g} * |(x, 1)|, in the unit of the network with layers of norm 1; "
        f"the target's own unit is {told['scale']:.4g} times it",
    ]
    if seen := told.get("observed"):
        lines.append(
            f"on all {seen['examples']:,} examples of {seen['data']}, |(x, 1)| = 1: error <= {seen['largest_errors'][-1]:.4g}, "
            f"output up to {seen['largest_output']:.4g}; the same class for {seen['same_class']:,}"
        )
    if known := told["theorems_at_c_1"]:
        lines.append(
            f"n = {told['n']}; at c = 1 (scale only, the constants are not known) Theorem 2 has {known['theorem_2_n']:.1f}, "
            f"Corollary 1 {known['corollary_1_n']:.0f}, Theorem 3 {', '.join(f'{n:.0f}' for n in known['theorem_3_n'])}"
        )
    return "\n".join(lines)


def _layers(certificate: Mapping[str, Any]) -> list[str]:
    seen = certificate.get("observed", {}).get("largest_errors")
    counts, sizes = ("inputs", "outputs", "sums", "failures"), ("largest_error", "norm_of_errors", "bound")
    rows = [["layer", *counts, "largest error", "norm of errors", "bound", *(["seen"] if seen else [])]]
    for i, layer in enumerate(certificate["layers"]):
        values = [*(layer[name] for name in sizes), *(seen[i : i + 1] if seen else [])]
        rows.append([str(i + 1), *(f"{layer[name]:,}" for name in counts), *(f"{value:.4g}" for value in values)])
    return columns(rows, "")
