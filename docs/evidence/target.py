"""Train a small ReLU network in numpy and store it for `edgeticket construct`: `target.py DATA WIDTH[,WIDTH...] FILE.npz`.

Full-batch Adam (arXiv 1412.6980) on the softmax cross-entropy of the training part; ten lines of backward pass, and no torch.
"""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

from edgeticket.data import Data, load
from edgeticket.files import check_free

STEPS, RATE, DECAY = 400, 0.01, (0.9, 0.999)


def main() -> None:
    source, widths, path = sys.argv[1:]
    check_free(Path(path), overwrite=False)
    data = load(source)
    arrays = train(data, [int(width) for width in widths.split(",")])
    np.savez(path, **arrays)  # type: ignore[arg-type]
    print(f"{path}: {100 * accuracy(arrays, *data.certify):.2f} % of the certify part")


def train(data: Data, widths: list[int], seed: int = 0) -> dict[str, np.ndarray]:
    """w1, b1, ... and the data's input map as `offset` and `step`, one value each; for data of one channel."""
    arrays = {"offset": np.array(data.input.offset[0]), "step": np.array(data.input.step[0])}
    x, y = examples(arrays, data.train[0]), data.train[1]
    sizes, random = [x.shape[1], *widths, len(data.classes)], np.random.default_rng(seed)
    layers = [[random.normal(0, (2 / a) ** 0.5, (b, a)), np.zeros(b)] for a, b in pairwise(sizes)]
    first, second = ([[np.zeros_like(each) for each in layer] for layer in layers] for _ in range(2))
    for step in range(1, STEPS + 1):
        for i, gradient in enumerate(gradients(layers, x, y)):
            for j, slope in enumerate(gradient):
                first[i][j] += (1 - DECAY[0]) * (slope - first[i][j])
                second[i][j] += (1 - DECAY[1]) * (slope**2 - second[i][j])
                mean, square = first[i][j] / (1 - DECAY[0] ** step), second[i][j] / (1 - DECAY[1] ** step)
                layers[i][j] = layers[i][j] - RATE * mean / (np.sqrt(square) + 1e-8)
    return arrays | {
        f"{name}{i}": each for i, layer in enumerate(layers, 1) for name, each in zip("wb", layer, strict=True)
    }


def gradients(layers: list[list[np.ndarray]], x: np.ndarray, y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    values = forward(layers, x)
    shares = np.exp(values[-1] - values[-1].max(1, keepdims=True))
    back = shares / shares.sum(1, keepdims=True)
    back[np.arange(len(y)), y] -= 1
    found = []
    for i in reversed(range(len(layers))):
        found.append((back.T @ values[i] / len(x), back.mean(0)))
        back = back @ layers[i][0] * (values[i] > 0)
    return found[::-1]


def forward(layers: list[list[np.ndarray]], x: np.ndarray) -> list[np.ndarray]:
    """The input, and what every layer gives."""
    values = [x]
    for i, (weights, bias) in enumerate(layers):
        x = x @ weights.T + bias
        values.append(np.maximum(x, 0) if i < len(layers) - 1 else x)
        x = values[-1]
    return values


def examples(arrays: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    return (x.reshape(len(x), -1) - arrays["offset"]) * arrays["step"]


def accuracy(arrays: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    layers = [[arrays[f"w{i}"], arrays[f"b{i}"]] for i in range(1, len(arrays) // 2)]
    return float((forward(layers, examples(arrays, x))[-1].argmax(1) == y).mean())


if __name__ == "__main__":
    main()
