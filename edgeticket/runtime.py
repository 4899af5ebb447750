"""A bundle at work in a gateway: `Predictor("x.bundle", keys=[key]).predict(frame)`. It needs numpy, safetensors and ONNX Runtime.

A bundle is used only if its seal and every digest in it fit, one of the given keys signed it, and this machine answers its golden
vectors as they say. What a sensor's fault makes of a frame never gets a label (edgeticket/guard.py).
"""

import json
import threading
from collections.abc import Sequence
from datetime import date
from math import exp
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort

from edgeticket.bundle_file import Bundle, read, read_golden, require
from edgeticket.errors import BundleError, TicketError
from edgeticket.guard import Guard, Status
from edgeticket.ticket import Input, parse_ticket

TOLERANCE = 1e-5  # of the largest golden output: float networks
CODE = 0.01  # the same for int8 networks without classes: a code or two, of another CPU's rounding
ANOMALY = ["normal", "anomalous"]
KINDS = {"tensor(uint8)": "uint8", "tensor(int16)": "int16", "tensor(float)": "float32"}


class Prediction(NamedTuple):
    """`label` and `score` are None where `status` is a fault.

    classification: the class, and its share of the softmax. anomaly: "anomalous" above the ticket's threshold, else "normal", and the mean squared
    error of the reconstruction. regression: the name of the first target, and its value. `outputs`: all that the network gave.
    """

    label: str | None
    score: float | None
    status: Status
    outputs: np.ndarray | None = None


class Predictor:
    """One sensor's network. Calls from several threads are taken one after the other, in the order of which stuck frames and drift are told.

    `path`: of a bundle, which is read once, or its bytes. `keys`: public keys, 32 bytes or PEM, of which one must have signed it;
    without keys only damage is noticed. `target_class`: the class of devices that it must be meant for. `today`: it must not have
    expired before; None: it is not asked, as the line goes on with what it has. `threads`: of one inference. `guard`: the bundle's, another that
    you put there, or None. Raises BundleError with its code: what is altered, not meant for here, or does not compute here what it says.
    """

    def __init__(
        self,
        path: str | PathLike[str] | bytes,
        keys: Sequence[bytes] = (),
        *,
        target_class: str | None = None,
        today: date | None = None,
        threads: int = 1,
    ) -> None:
        bundle = read(path if isinstance(path, bytes) else Path(path), keys)
        require(bundle, target_class=target_class, today=today)
        self.manifest, self.signed_by = bundle.manifest, bundle.signed_by
        self._task = self.manifest["task"]
        self._labels = ANOMALY if self._task == "anomaly" else self.manifest["labels"]
        self._shape, self._dtype = tuple(self.manifest["input"]["shape"]), np.dtype(self.manifest["input"]["dtype"])
        self._session = _session(bundle.files[self.manifest["model"]], threads)
        self._input, self._outputs = self._session.get_inputs()[0].name, [self._session.get_outputs()[0].name]
        self._require_input()
        self._anomaly = _threshold(bundle) if self._task == "anomaly" else None
        self.guard = _guard(bundle, self._shape, self._dtype.name)
        self._lock = threading.Lock()
        self._require_golden(bundle)

    def predict(self, frame: np.ndarray) -> Prediction:
        """For the next frame, raw as the sensor gives it: an array of the manifest's shape and type, without a batch axis."""
        with self._lock:
            watch = guard.watch if (guard := self.guard) else None
            status = watch.check(frame) if watch else self._plain(frame)
            if status.fault:
                return Prediction(None, None, status)
            outputs = self._run(frame)
            answer, score = self._answer(frame, outputs)
            if watch and watch.follow(answer):
                status = Status.DRIFT
        return Prediction(self._labels[answer], score, status, outputs)

    def answers(self, frames: np.ndarray) -> np.ndarray:
        """Of frames [n, ...] the numbers of their labels, int [n], whatever the guard says: for `Guard.fit` on what a line gave."""
        return np.array([self._answer(frame, self._run(frame))[0] for frame in frames], int)

    def reset(self) -> None:
        """Forget the frames before and a drift that was told: after the sensor was looked after."""
        if guard := self.guard:
            guard.reset()

    def _run(self, frame: np.ndarray) -> np.ndarray:
        outputs: np.ndarray = self._session.run(self._outputs, {self._input: frame[None]})[0][0]
        return outputs

    def _answer(self, frame: np.ndarray, outputs: np.ndarray) -> tuple[int, float]:
        """The number of the label, and the score."""
        if self._anomaly:
            sensor, alarm_above = self._anomaly
            values = outputs.reshape(-1).astype(np.float64)
            error = float(np.mean((values - sensor.apply(frame[None]).reshape(-1)) ** 2))
            return int(error > alarm_above), error
        numbers = outputs.tolist()  # a few: a list is quicker than numpy's calls
        if self._task == "regression":
            return 0, numbers[0]
        top = max(numbers)
        return numbers.index(top), 1 / sum([exp(number - top) for number in numbers])

    def _plain(self, frame: Any) -> Status:
        """What is checked without a guard."""
        if not isinstance(frame, np.ndarray) or frame.dtype != self._dtype:
            return Status.DTYPE
        if frame.shape != self._shape:
            return Status.SHAPE
        return Status.OK if self._dtype.kind != "f" or np.isfinite(frame).all() else Status.NOT_FINITE

    def _require_input(self) -> None:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        own = inputs[0]
        if len(inputs) != 1 or tuple(own.shape[1:]) != self._shape or KINDS.get(own.type) != self._dtype.name:
            raise BundleError("model", f"the network does not read {self._dtype} {self._shape}, as its manifest says")
        if self._task != "anomaly" and outputs[0].shape[1:] != [len(self._labels)]:
            raise BundleError("model", f"the network has not one output for each of {len(self._labels)} labels")

    def _require_golden(self, bundle: Bundle) -> None:
        content = bundle.one("golden")
        assert content is not None  # no manifest is without
        inputs, expected = read_golden(content)
        if inputs.shape[1:] != self._shape or inputs.dtype != self._dtype:
            raise BundleError("golden", "the golden vectors are of another input")
        made = np.stack([self._run(frame) for frame in inputs])
        int8 = self.manifest["model"] in bundle.paths("onnx-int8")
        if made.shape != expected.shape or not _agree(made, expected, int8, self._task):
            raise BundleError("golden", "this machine does not answer the golden vectors as they say")


def _agree(made: np.ndarray, expected: np.ndarray, int8: bool, task: str) -> bool:
    if int8 and task == "classification":
        return bool((made.argmax(1) == expected.argmax(1)).all())
    allowed = (CODE if int8 else TOLERANCE) * np.abs(expected).max()
    return bool((np.abs(made - expected) <= allowed).all())


def _session(content: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # errors are raised
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own, which have no common parent
        raise BundleError("model", f"ONNX Runtime {ort.__version__} refuses the network ({error})") from error


def _threshold(bundle: Bundle) -> tuple[Input, float]:
    """How the network reads the sensor, and the error above which a frame is anomalous."""
    content = bundle.one("ticket")
    try:
        ticket = parse_ticket(content or b"")
        (sensor,) = ticket.inputs.values()
        return sensor, float(ticket.provenance["alarm_above"])
    except (TicketError, KeyError, TypeError, ValueError) as error:
        raise BundleError("ticket", "the ticket tells no threshold for anomalies") from error


def _guard(bundle: Bundle, shape: tuple[int, ...], dtype: str) -> Guard | None:
    content = bundle.one("guard")
    if content is None:
        return None
    try:
        guard = Guard.from_json(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise BundleError("guard", "the guard is damaged") from error
    if (guard.rules.shape, guard.rules.dtype) != (shape, dtype):
        raise BundleError("guard", "the guard is for another sensor")
    return guard
