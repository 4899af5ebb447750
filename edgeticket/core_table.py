Table = dict[str, tuple[float, ...]]
CODE: Table = {}
WORK: Table = {}
STACK: Table = {}
