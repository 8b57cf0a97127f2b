"""Formulas of the site as MathML, which browsers show without a script: a hook of mkdocs."""

import html
import re
from typing import Any

from latex2mathml.converter import convert


def on_page_content(content: str, **_: Any) -> str:
    """Replace what the extension arithmatex marked as a formula, in the text and in docstrings."""

    def to_mathml(match: re.Match[str]) -> str:
        return convert(html.unescape(match[2]), display="block" if match[1] == "[" else "inline")

    return re.sub(
        r'<(?:span|div) class="arithmatex">\\([\[(])(.*?)\\[\])]</(?:span|div)>', to_mathml, content, flags=re.DOTALL
    )
