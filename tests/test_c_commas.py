"""MISRA C:2012, rule 12.3: no comma operator in what a device runs, but in the head of a for."""

import re
import subprocess
from itertools import product

import pycparser
import pytest
from cases import CASES
from slots_sim import PORT
from tiny_c import need

from edgeticket.compact import compact
from exporters.to_c import FORMS, texts

NAMES = [f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)] + ["size_t", "uintptr_t"]
LIBRARY = f"typedef int {', '.join(NAMES)};"  # enough to parse by


class Commas(pycparser.c_ast.NodeVisitor):
    def __init__(self) -> None:
        self.lines: list[int] = []

    def visit_ExprList(self, node: pycparser.c_ast.ExprList) -> None:
        self.lines.append(node.coord.line)
        self.generic_visit(node)

    def visit_FuncCall(self, node: pycparser.c_ast.FuncCall) -> None:
        for argument in node.args or ():
            self.visit(argument)

    def visit_For(self, node: pycparser.c_ast.For) -> None:
        self.visit(node.stmt)


def commas(source: str, *defined: str) -> list[str]:
    """The lines of C, preprocessed, with one."""
    own = re.sub(r"^ *# *include <.*", "", source, flags=re.MULTILINE)
    command = ["cc", "-E", "-P", f"-I{PORT}", "-D__attribute__(x)=", *(f"-D{name}" for name in defined), "-"]
    text = LIBRARY + subprocess.run(command, input=own, capture_output=True, text=True, check=True).stdout
    found = Commas()
    found.visit(pycparser.CParser().parse(text))
    return [text.splitlines()[line - 1].strip() for line in found.lines]


def network(case: str, form: str) -> str:
    made = texts(compact(CASES[case].ticket()), "net", form, 2, None)
    return made["net.c"].replace('#include "net.h"', made["net.h"])


def test_a_comma_operator_is_seen() -> None:
    assert commas("int f(int a, int b) { for (a = 0, b = 1; a < b; a++, b--) f(a, b);\nreturn a = 1, b; }") == [
        "return a = 1, b; }"
    ]


def test_slots_have_none() -> None:
    need("cc")
    assert commas((PORT / "slots.c").read_text()) == []


@pytest.mark.parametrize("form", FORMS)
def test_no_form_of_a_network_has_one(form: str) -> None:
    need("cc")
    defined = [] if form in ("lists", "boot") else ["net_UPDATABLE"]  # which cannot be updated
    assert commas(network("plain", form), *defined) == []


@pytest.mark.slow
@pytest.mark.parametrize(("case", "form"), list(product(CASES, ("seed", "dense"))))
def test_no_network_has_one(case: str, form: str) -> None:
    need("cc")
    assert commas(network(case, form)) == []
