"""A matplotlib figure as inline SVG: text stays text, colours are the page's, ids are unique, and it has a name to be read out."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

# matplotlib knows no CSS variables: each of these stands for one.
INK, SOFT, RULE, OWN, PAPER = "#000001", "#000002", "#000003", "#000004", "#000005"
_VARIABLES = {INK: "var(--ink)", SOFT: "var(--soft)", RULE: "var(--rule)", OWN: "var(--own)", PAPER: "var(--paper)"}
_SVG, _LINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
_FONT = re.compile(r"font(?:-family)?: ?(?:(\d[\d.]*px) )?[^;]*(;|$)")
_FRACTION = re.compile(r"-?\d+\.\d+")  # a tenth of a unit is less than a pixel
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgeticket",
    "font.size": 10,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.unicode_minus": True,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.2,
}


@dataclass(frozen=True)
class Picture:
    title: str
    description: str
    svg: Markup


@contextmanager
def style() -> Iterator[None]:
    """Figures are made within it."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the page's fonts have it
        yield


def inline(figure: Figure, name: str, title: str, description: str) -> Picture:
    """`name`: unique in the page; `title`, `description`: what is read out for the picture. Same figure, same text."""
    drawn = BytesIO()
    figure.savefig(drawn, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ElementTree.fromstring(drawn.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{{{_SVG}}}metadata" or (len(child) and child[0].tag == f"{{{_SVG}}}style"):
                parent.remove(child)
    _own_ids(root, name)
    for element in root.iter():
        for key in {"d", "x", "y"} & element.attrib.keys():
            element.set(key, _FRACTION.sub(lambda match: f"{float(match[0]):.1f}", element.attrib[key]))
        _share_style(element)
    for text in root.iter(f"{{{_SVG}}}text"):
        text.set("style", _FONT.sub(lambda match: f"font-size: {match[1]};" if match[1] else "", text.get("style", "")))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title", "aria-describedby": f"{name}-desc"}
    for i, (tag, told) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{tag}"})
        element.text = told
        root.insert(i, element)
    return Picture(title, description, Markup(_text(root)))


def _share_style(parent: ElementTree.Element) -> None:
    """What all children of a group say alike is said once."""
    styles = {child.get("style") for child in parent}
    if parent.tag == f"{{{_SVG}}}g" and len(parent) > 1 and len(styles) == 1 and None not in styles:
        parent.set("style", f"{parent.get('style', '')}{parent[0].get('style')}")
        for child in parent:
            del child.attrib["style"]


def _own_ids(root: ElementTree.Element, name: str) -> None:
    """Ids that something refers to begin with the picture's name; the others go."""
    whole = ElementTree.tostring(root, encoding="unicode")
    used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', whole))
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own in used:
            element.set("id", f"{name}-{own}")
        for key, value in element.attrib.items():
            if key == _LINK:
                element.set(key, value.replace("#", f"#{name}-"))
            elif "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{name}-"))


def _text(root: ElementTree.Element) -> str:
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    text = ElementTree.tostring(root, encoding="unicode")
    for sentinel, variable in _VARIABLES.items():
        text = text.replace(sentinel, variable)
    return re.sub(r"\n\s*", "\n", text)
