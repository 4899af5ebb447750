"""C99 for microcontrollers: one file that needs no library, its header, a self-test with golden vectors, and how to build it.

The result computes the integer network of edgeticket/integer.py bit for bit. Layers run one after the other over one arena;
each reads its part of the model, a byte string in the wire form of edgeticket/wire.py, which an update replaces.
"""

import re
from pathlib import Path

import numpy as np

from edgeticket.budget import CORES
from edgeticket.errors import EquivalenceError, UsageError
from edgeticket.guard import Guard
from edgeticket.integer import integerise
from edgeticket.model import Model, Raw
from edgeticket.reference import feed
from edgeticket.wire import pack
from exporters import c_guard, c_load, c_run
from exporters.c_network import Network

SUFFIX = ""
ALIGN = 1  # channels: kernels read any number of them
FORMS = ("auto", "seed", "signs", "lists", "boot", "dense")
AUTO = {"cortex-m55": "boot"}  # vectors leave decoding as the largest share of an inference
VECTORS = 4
PORT = Path(__file__).with_name("c") / "port"
MADE = "/* edgeticket export --to c --form {} --bands {} */\n"  # begins the header: with it a reader makes the same texts again


def export(
    model: Model,
    path: Path,
    *,
    form: str = "auto",
    core: str = "cortex-m4",
    bands: int = 2,
    guard: Guard | None = None,
) -> None:
    """Write the folder `path`.

    `form`: where masked weights come from: seed (masks; signs by the generator), signs (masks and sign bits), lists (lists of
    what to add and to take off, in flash), boot (masks, made lists in RAM by the first inference), dense (int8 in flash).
    auto: seed, or what is best for `core`. `bands`: at most so many bands of rows for what one convolution makes for another:
    less RAM, and each decodes a convolution's lists once more. `guard`: written too, as NAME_guard.c and .h. Raises UsageError for another form, UnsupportedError, naming the layer, for what has
    no C form.
    """
    if form not in FORMS:
        raise UsageError(f"form {form!r}: take one of {', '.join(FORMS)}")
    if bands < 1:
        raise UsageError(f"bands {bands}: 1 keeps whole tensors, more take less memory")
    if core not in CORES:
        raise UsageError(f"core {core!r}: take one of {', '.join(CORES)}")
    form = AUTO.get(core, "seed") if form == "auto" else form
    made = texts(model, identifier(path.name), form, bands, guard)
    path.mkdir()
    for file_name, text in made.items():
        (path / file_name).write_text(text)


def texts(model: Model, name: str, form: str, bands: int, guard: Guard | None) -> dict[str, str]:
    """File name -> content, of every file of a folder for the network `name`: the same each time. As `export`, without auto."""
    if guard:
        c_guard.require(guard, model)
    network = Network(model, pack(model, "seed" if form == "boot" else form), name, form == "boot", bands)
    golden = c_run.vectors(network.wire.integer, name, model.random_inputs(VECTORS))
    golden += c_load.example(name, network.wire.packet) if network.updatable else ""
    made = {f"{name}.h": MADE.format(form, bands) + network.header(), f"{name}.c": network.source()}
    for file in sorted(PORT.iterdir()):
        text = re.sub(r"NAME(?=[_.\W])", name, file.read_text())
        made |= {f"{name}_selftest.c": golden + text} if file.name == "selftest.c" else {file.name: text}
    return made | (c_guard.files(guard, name) if guard else {})


def names(name: str) -> set[str]:
    """Of all files that a folder for the network `name` may hold."""
    own = {f"{name}{end}" for end in (".h", ".c", "_selftest.c", "_guard.h", "_guard.c")}
    return own | {file.name for file in PORT.iterdir()} - {"selftest.c"}


def left(folder: Path) -> set[str]:
    """Names of what exports and their Makefile may have left in a folder that is replaced: none without a header of ours."""
    networks = [header.stem for header in folder.glob("*.h") if _is_ours(header)]
    return {c_run.BUILT}.union(*map(names, networks)) if networks else set()


def _is_ours(header: Path) -> bool:
    try:
        return header.is_file() and header.read_bytes().startswith(MADE.partition("{}")[0].encode())
    except OSError:
        return False


def prove(model: Model, path: Path, raw: Raw, *, guard: Guard | None = None, **_: str | int) -> None:
    """Build the folder here and run it. Raises EquivalenceError where a code is not the specification's, UnsupportedError where
    there is no compiler."""
    integer = integerise(model)
    for name, made, right in zip(
        model.plan.outputs, c_run.run(integer, path, raw), c_run.expected(integer, raw), strict=True
    ):
        if not np.array_equal(made, right):
            raise EquivalenceError(
                f"{path.name}: {int((made != right).sum())} codes of output {name} are not the integer network's"
            )
    if guard:
        (frames,) = feed(model.plan, raw).values()
        c_guard.prove(guard, path, identifier(path.name), np.repeat(frames, 3, 0))


def identifier(name: str) -> str:
    """A C identifier of a file's name."""
    cleaned = re.sub(r"\W", "_", name.partition(".")[0], flags=re.ASCII)
    taken = cleaned.lower().startswith("et") or cleaned in {
        file.stem for file in PORT.iterdir()
    }  # by what is in the folder
    return f"net_{cleaned}" if not cleaned or cleaned[0].isdigit() or taken else cleaned
