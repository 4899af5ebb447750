CODE: dict[str, tuple[float, ...]] = {}
WORK: dict[str, tuple[float, ...]] = {}
STACK: dict[str, tuple[int, ...]] = {}
