"""The forms in which -d takes data, the layouts of arrays and the tasks, in words. Imports nothing: a --help may show it."""

FORMS = {
    "FILE.npz": "arrays x_train and y_train; optional x_test and y_test, groups (ids that stay in one part), classes (names)",
    "FOLDER": "a sub-folder of images for each class, in it or in its train/ and test/",
    "FILE.py:FUNCTION": "a function without arguments that returns a dict of such arrays",
}
LAYOUT_LINES = {
    "auto": "[n, features], uint8 [n, h, w], pictures of 1, 3 or 4 channels; else refused",
    "channels-first": "[n, c, h, w] or [n, c, length]",
    "channels-last": "[n, h, w, c] or [n, length, c]",
    "flat": "[n, features]; more axes are flattened",
    "series": "[n, channels, length], or [n, length] of one channel",
    "series-last": "[n, length, channels]",
}
LAYOUTS = tuple(LAYOUT_LINES)
LAYOUT_HELP = "\n".join(["Layouts, n = examples:", *(f"  {name:15s} {line}" for name, line in LAYOUT_LINES.items())])
TASK_LINES = {
    "auto": "a known name has its own; else integers in y: classification, floating point: regression",
    "classification": "y [n]: classes 0, 1, 2 ...",
    "regression": "y [n] or [n, targets]: numbers, learned and given in their own units",
    "anomaly": "y [n]: 0, or the class named normal, ok or good, is normal; training takes these only",
}
TASKS = tuple(TASK_LINES)
TASK_HELP = "\n".join(["Tasks:", *(f"  {name:15s} {line}" for name, line in TASK_LINES.items())])
