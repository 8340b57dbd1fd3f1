# SPDX-License-Identifier: Apache-2.0
"""A page of docs/ as what it tells its reader to type."""

import os
import re
from typing import NamedTuple

from . import doppel, wait

BLOCK = re.compile(r"^## (?P<heading>[^\n]*)$|^```sh\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
ELSEWHERE = "# new machine\n"


class Block(NamedTuple):
    heading: str    # of the section that it stands in
    text: str
    elsewhere: bool  # it is typed on the new machine


def blocks(name):
    """All blocks of docs/NAME, in order."""
    with open(os.path.join(doppel.REPOSITORY, "docs", name), encoding="utf-8") as f:
        page = f.read()
    found, heading = [], ""
    for match in BLOCK.finditer(page):
        if match["heading"]:
            heading = match["heading"]
        else:
            text = match["text"]
            found.append(Block(heading, text.removeprefix(ELSEWHERE), text.startswith(ELSEWHERE)))
    return found


def typed(host, block, names, timeout):
    """Types it on that host, each line of it must succeed; `names`: what stands for what of the page's."""
    text = block.text
    for of_page, of_lab in names.items():
        text = text.replace(of_page, of_lab)
    script = f'set -e\nsudo() {{ "$@"; }}\ndoppel() {{ {doppel.binary()} "$@"; }}\n{text}'
    return host.run(["sh", "-c", script], timeout=wait.patience(timeout)).stdout
