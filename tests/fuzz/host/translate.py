# SPDX-License-Identifier: Apache-2.0
"""Copies a BPF source with its inline assembly turned into C, so that a host's compiler takes it.

    translate.py OUTPUT_DIR SOURCE_DIR FILE...

A file keeps its place below SOURCE_DIR. Everything else stays byte for byte, and on its line. What the grammar below does not know is an
error: nothing is silently left out.
"""

import os
import re
import sys

ASM = re.compile(r"\basm volatile\((.*?)\);", re.DOTALL)
STRINGS = re.compile(r'^\s*((?:"(?:[^"\\]|\\.)*"\s*)+)(.*)$', re.DOTALL)
OPERAND = re.compile(r'\[(\w+)\]\s*"(\+r|i)"\(([^()]*)\)')
INSTRUCTION = re.compile(r"^%\[(\w+)\] (\+=|&=|<<=|s>>=) (?:%\[(\w+)\]|(-?(?:0x)?[0-9a-f]+))$")


def statement(text, place):
    found = STRINGS.match(text)
    if not found:
        sys.exit(f"{place}: asm without a template")
    template = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', found.group(1)))
    if not template:  # a barrier for the compiler, good on any host
        return None
    out, ins = [], []
    values = {}
    for name, constraint, expression in OPERAND.findall(found.group(2)):
        values[name] = f"r_{name}" if constraint == "+r" else f"({expression})"
        if constraint == "+r":
            ins.append(f"unsigned long long r_{name} = {expression};")
            out.append(f"{expression} = r_{name};")
    for line in template.replace("\\t", "").split("\\n"):
        parsed = INSTRUCTION.match(line)
        if not parsed or parsed.group(1) not in values:
            sys.exit(f"{place}: cannot translate the instruction {line!r}")
        to, operator, register, number = parsed.groups()
        value = values[register] if register else number
        if operator == "s>>=":
            ins.append(f"r_{to} = (unsigned long long)((long long)r_{to} >> {value});")
        else:
            ins.append(f"r_{to} {operator} {value};")
    return "do { " + " ".join(ins + out) + " } while (0);" + "\n" * text.count("\n")


def main():
    target, root, *files = sys.argv[1:]
    for path in files:
        output = os.path.join(target, os.path.relpath(path, root))
        os.makedirs(os.path.dirname(output), exist_ok=True)
        with open(path, encoding="utf-8") as f:
            source = f.read()

        def replace(m):
            place = f"{path}:{source.count(chr(10), 0, m.start()) + 1}"
            return statement(m.group(1), place) or m.group(0)

        with open(output, "w", encoding="utf-8") as f:
            f.write(f'#line 1 "{path}"\n' + ASM.sub(replace, source))


if __name__ == "__main__":
    main()
