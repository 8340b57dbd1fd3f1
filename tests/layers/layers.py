#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A folder of userspace/ is a layer, and includes only what lies below it; no file includes itself in a circle.

    tests/layers/layers.py SOURCE_DIRECTORY

The order of the layers is the list `layers` in userspace/CMakeLists.txt; cli stands above them all.
Exit code 0: all is well; 1: each fault is told, or this test did not find the faults of its own samples.
"""

import pathlib
import re
import sys

INCLUDE = re.compile(r'^#include "userspace/([^"]+)"', re.MULTILINE)
LAYERS = re.compile(r"^set\(layers ([^)]*)\)", re.MULTILINE)


def layers_of(cmake):
    """The layers in a CMakeLists.txt, lowest first."""
    found = LAYERS.search(cmake)
    return found.group(1).split() + ["cli"] if found else []


def circle(includes, file, path=()):
    """The way from `file` back to a file on it, or None."""
    if file in path:
        return path[path.index(file):] + (file,)
    for other in includes.get(file, ()):
        found = circle(includes, other, path + (file,))
        if found:
            return found
    return None


def faults(layers, files):
    """What is wrong with `files`, texts by their path below userspace/: a sentence each."""
    includes = {file: INCLUDE.findall(text) for file, text in files.items()}
    told, circles = [], set()
    for file, others in sorted(includes.items()):
        layer = file.split("/")[0]
        if layer not in layers:
            told.append(f"{file}: its folder is not in the list of layers")
            continue
        for other in others:
            if other not in files:
                told.append(f"{file} includes {other}, which does not exist")
            elif other.split("/")[0] in layers[layers.index(layer) + 1:]:
                told.append(f"{file} includes {other}, which lies above it")
        way = circle(includes, file)
        if way and frozenset(way) not in circles:
            circles.add(frozenset(way))
            told.append("a circle: " + " -> ".join(way))
    return told


# Each sample has exactly the fault that its name says.
SAMPLES = {
    "lies above": {"util/a.h": '#include "userspace/plan/b.h"\n', "plan/b.h": ""},
    "a circle": {"util/a.h": '#include "userspace/util/b.h"\n', "util/b.h": '#include "userspace/util/a.h"\n'},
    "does not exist": {"util/a.h": '#include "userspace/util/b.h"\n'},
    "not in the list": {"new/a.h": ""},
}


def main():
    top = pathlib.Path(sys.argv[1]) / "userspace"
    good = {"util/a.h": "", "plan/b.h": '#include "userspace/util/a.h"\n', "cli/c.cpp": '#include "userspace/plan/b.h"\n'}
    listed = layers_of("set(layers util plan)\n")
    broken = [f"a good sample has a fault: {fault}" for fault in faults(listed, good)]
    for name, sample in SAMPLES.items():
        told = faults(listed, sample)
        if len(told) != 1 or name not in told[0]:
            broken.append(f"the sample \"{name}\" gave {told}")
    files = {path.relative_to(top).as_posix(): path.read_text(encoding="utf-8")
             for path in top.rglob("*") if path.suffix in (".h", ".cpp", ".def")}
    layers = layers_of((top / "CMakeLists.txt").read_text(encoding="utf-8"))
    if len(layers) < 2 or not files:
        broken.append("no layers or no files were found")
    told = faults(layers, files)
    print("".join(line + "\n" for line in broken + told), end="")
    print(f"{len(files)} files in {len(layers)} layers, {len(told)} faults")
    return 1 if broken or told else 0


if __name__ == "__main__":
    sys.exit(main())
