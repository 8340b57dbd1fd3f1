# SPDX-License-Identifier: Apache-2.0
"""clang-tidy over several files at once, so that what they all include is read, and looked at, once.

Files of a folder, which have the same flags, are included into one that is looked at. The analyzer takes them for code,
as it knows of sources that are unified. Those that do not compile together, as both have a name of their own that is the
same, are kept apart.
"""

import concurrent.futures
import json
import os
import re
import shlex
import subprocess

AT_MOST = 60000  # bytes of sources in one, so that each CPU has its share

EXTRA = (
    # of the compiler that the build is configured for
    "-Wno-unknown-warning-option",
    # The analyzer looks at so many states of a function, and not at 225,000: the largest file takes 8 s instead of 23 s.
    "-Xclang", "-analyzer-config", "-Xclang", "max-nodes=30000",
    # Each function is also looked at for itself, as if its callers were in another file.
    "-Xclang", "-analyzer-inlining-mode=all",
)


def flags_of(entry):
    """What a source is compiled with, but for the precompiled header, which may be another compiler's."""
    words = iter(shlex.split(entry["command"])[1:])
    flags = []
    for word in words:
        if word in ("-o", "-c", "-include"):
            next(words)
        elif word != "-Winvalid-pch":
            flags.append(word)
    return flags


class Folder:
    """Sources with the same flags, and files in `where` that include them."""

    def __init__(self, name, entry, where):
        self.name, self.flags, self.directory, self.where = name, flags_of(entry), entry["directory"], where
        self.files = []

    def source(self, number):
        return os.path.join(self.where, f"{self.name}.{number}.cpp")

    def write(self, number, files):
        with open(self.source(number), "w", encoding="utf-8") as out:
            out.writelines(f'#include "{file}" // NOLINT(bugprone-suspicious-include)\n' for file in files)

    def clashing(self, number):
        """Which lines of that source include what does not compile behind the lines before."""
        source = self.source(number)
        done = subprocess.run(["clang++", *self.flags, "-w", "-fsyntax-only", "-ferror-limit=0", source],
                              cwd=self.directory, capture_output=True, text=True, check=False)
        line, found = 1, set()
        for told in done.stderr.splitlines():
            if included := re.match(rf"In file included from {re.escape(source)}:(\d+)", told):
                line = int(included.group(1))
            elif " error: " in told:
                found.add(line)
        return found

    def split(self):
        """Writes the sources; returns their entries for the database, with the size of each."""
        entries = []
        rest = self.files
        while rest:
            group, rest = first_of(rest)
            self.write(len(entries), group)
            while len(group) > 1 and (found := self.clashing(len(entries))):
                # Where the first one is wrong, it is looked at alone.
                apart = {group[line - 1] for line in found if line > 1} or set(group[1:])
                rest = [file for file in group if file in apart] + rest
                group = [file for file in group if file not in apart]
                self.write(len(entries), group)
            source = self.source(len(entries))
            entries.append((sum(map(os.path.getsize, group)),
                            {"file": source, "directory": self.directory,
                             "arguments": ["c++", *self.flags, "-c", source]}))
        return entries


# Types and variables at the start of a line: what mostly clashes, most of it in a namespace without a name.
NAME = re.compile(r"^(?:(?:struct|class|enum(?: class)?) (\w+)|using (\w+) ="
                  r"|(?:constexpr|const|static|volatile|std::atomic)\b[^;=(){\n]*[ *&>](\w+)(?: = |\{|;|\[))", re.MULTILINE)


def names_of(file):
    with open(file, encoding="utf-8") as source:
        return {found[found.lastindex] for found in NAME.finditer(source.read())}


def first_of(files):
    """(as many as make one source, and seem not to clash; what remains)"""
    group, rest, size, taken = [], [], 0, set()
    for file in files:
        size += os.path.getsize(file)
        names = names_of(file)
        if not group or (size <= AT_MOST and not taken & names):
            group.append(file)
            taken |= names
        else:
            rest.append(file)
            size -= os.path.getsize(file)
    return group, rest


def run(files, build, jobs):
    """Prints what clang-tidy says; whether it is content. Its errors come from .clang-tidy."""
    where = os.path.join(os.path.abspath(build), "tidy")
    os.makedirs(where, exist_ok=True)
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as database:
        compiled = {entry["file"]: entry for entry in json.load(database)}
    folders = {}
    for file in map(os.path.abspath, files):
        name = os.path.basename(os.path.dirname(file))
        if name not in folders:
            folders[name] = Folder(name, compiled[file], where)
        folders[name].files.append(file)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        entries = sum(pool.map(Folder.split, folders.values()), [])
    entries.sort(key=lambda entry: entry[0], reverse=True)  # so that no long one is the last
    with open(os.path.join(where, "compile_commands.json"), "w", encoding="utf-8") as database:
        json.dump([entry for _, entry in entries], database)
    done = subprocess.run(["xargs", "-P", str(jobs), "-n", "1", "clang-tidy", "-p", where, "--quiet",
                           "--config-file=.clang-tidy", *(f"--extra-arg={word}" for word in EXTRA)],
                          input="\n".join(entry["file"] for _, entry in entries), text=True, capture_output=True,
                          check=False)
    print("".join(line + "\n" for line in done.stdout.splitlines() if line), end="")
    if done.returncode and not done.stdout.strip():
        print(done.stderr)
    return done.returncode == 0
