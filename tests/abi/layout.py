#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the types of include/doppel/abi.h with those that are recorded for its DP_ABI.

    tests/abi/layout.py c++ SOURCE_DIRECTORY             exit code 1: they differ
    tests/abi/layout.py c++ SOURCE_DIRECTORY --record    after DP_ABI was raised

A doppel adopts and drains what another build of the same DP_ABI has attached. A map whose rows have another size is
refused; members that change places, or numbers that change their meaning, would be misread.
"""

import difflib
import pathlib
import re
import subprocess
import sys

TYPE = re.compile(r"\b(struct|enum) (dp_\w+) \{([^}]*)\}", re.DOTALL)
CONSTANT = re.compile(r"^#define (DP_(?:ABI|MAX_\w+|CHUNK\w*|PIECE|PORT_WORDS|CLIENTS|META_\w+)) (.+)$", re.MULTILINE)


def listing(text):
    """One line for each member and enumerator of the preprocessed header, in their order."""
    lines = []
    for kind, name, body in TYPE.findall(text):
        number = -1
        for entry in re.split(r"[;,]" if kind == "struct" else ",", body):
            entry = " ".join(entry.split())
            if not entry:
                continue
            if kind == "struct":
                lines.append(f"{name}: {entry}")
                continue
            word, _, value = entry.partition("=")
            # An expression of integers, as C and Python both read it.
            number = eval(value, {"__builtins__": {}}) if value else number + 1
            lines.append(f"{name}: {word.strip()} = {number}")
    return lines


def layout(compiler, source):
    """(DP_ABI, lines)"""
    command = [compiler, "-E", "-P", "-x", "c++", f"-I{source}/include", f"{source}/include/doppel/abi.h"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    macros = subprocess.run([*command, "-dM"], capture_output=True, text=True, check=True).stdout
    constants = sorted(CONSTANT.findall(macros))
    return int(dict(constants)["DP_ABI"]), [f"{name} {value}" for name, value in constants
                                            if name != "DP_ABI"] + listing(text)


def verdict(abi, now, recorded_abi, recorded):
    """What is wrong, or None."""
    if abi != recorded_abi:
        return f"DP_ABI is {abi}, and the record is of {recorded_abi}: tests/abi/layout.py c++ . --record writes it anew"
    if now != recorded:
        changes = difflib.unified_diff(recorded, now, f"recorded for DP_ABI {abi}", "include/doppel/abi.h", lineterm="", n=1)
        return "\n".join([*changes, f"the layout changed, and DP_ABI is {abi} still: raise it, then --record"])
    return None


def assert_notices():
    """This test finds what it is for, or it is none."""
    a = listing("struct dp_x { __u32 one; __u32 two; }; enum dp_e { A = 1 << 2, B, C, };")
    assert a == ["dp_x: __u32 one", "dp_x: __u32 two", "dp_e: A = 4", "dp_e: B = 5", "dp_e: C = 6"], a
    b = listing("struct dp_x { __u32 two; __u32 one; }; enum dp_e { A = 1 << 2, B, C, };")
    assert verdict(1, a, 1, a) is None and "raise it" in verdict(1, b, 1, a) and "record" in verdict(2, b, 1, a)


def main():
    compiler, source = sys.argv[1], pathlib.Path(sys.argv[2])
    record = source / "tests/abi/layout"
    assert_notices()
    abi, now = layout(compiler, source)
    recorded = record.read_text(encoding="ascii").splitlines() if record.exists() else [f"DP_ABI {abi - 1}"]
    recorded_abi = int(recorded[0].split()[1])
    wrong = verdict(abi, now, recorded_abi, recorded[1:])
    if wrong and sys.argv[3:] == ["--record"] and abi != recorded_abi:
        record.write_text("\n".join([f"DP_ABI {abi}", *now]) + "\n", encoding="ascii")
        wrong = None
    if wrong:
        print(wrong)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
