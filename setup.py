"""What is compiled where it can be: without a C compiler numpy computes the same (edgeticket/watch.py)."""

import sysconfig

import numpy
from setuptools import Extension, setup

WATCH = Extension(
    "edgeticket._watch",
    ["edgeticket/_watch.c"],
    include_dirs=[numpy.get_include()],
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    extra_compile_args=["-O3"],  # loops over values are vectorised, which -O2 does not do in every compiler
    py_limited_api=True,
    optional=True,
)

if sysconfig.get_config_var("Py_GIL_DISABLED"):  # no limited API there, and Watch relies on the lock
    setup()
else:
    setup(ext_modules=[WATCH], options={"bdist_wheel": {"py_limited_api": "cp311"}})
