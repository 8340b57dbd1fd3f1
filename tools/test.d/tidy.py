# SPDX-License-Identifier: Apache-2.0
"""clang-tidy in two ways, each where it is fast and finds what it can.

What looks at syntax looks at all that is included, too, which is most of its time. So files of a folder, which have the same
flags, are included into one that is looked at. Those that do not compile together, as both have a name of their own that
is the same, are kept apart.

The analyzer walks no paths of what is included, so it looks at each file by itself; and since it is no other's business
there, headers of libraries may be precompiled.
"""

import concurrent.futures
import json
import os
import re
import shlex
import subprocess

import clang

AT_MOST = 60000  # bytes of sources in one, so that each CPU has its share

# of the compiler that the build is configured for
EXTRA = ("-Wno-unknown-warning-option",)
# The analyzer looks at so many states of a function, and not at 225,000: the largest file takes 8 s instead of 23 s.
ANALYZER = (*EXTRA, "-Xclang", "-analyzer-config", "-Xclang", "max-nodes=30000")


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
                              cwd=self.directory, capture_output=True, text=True, check=False, env=clang.environment())
        line, found = 1, set()
        for told in done.stderr.splitlines():
            if included := re.match(rf"In file included from {re.escape(source)}:(\d+)", told):
                line = int(included.group(1))
            elif " error: " in told:
                found.add(line)
        return found

    def split(self):
        """Writes the sources; returns (bytes, name, directory, flags) of each."""
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
            entries.append((sum(map(os.path.getsize, group)), source, self.directory, self.flags))
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


def analyzer_checks():
    """Those of .clang-tidy that are the analyzer's."""
    with open(".clang-tidy", encoding="utf-8") as config:
        return ",".join(["-*", *re.findall(r"^ +(-?clang-analyzer-[\w.*-]+),?$", config.read(), re.MULTILINE)])


class Precompiled:
    """Headers of libraries, as the build has them precompiled by its own compiler (DOPPEL_PCH), in `where`."""

    def __init__(self, where):
        self.where, self.made = where, {}

    def flags(self, entry):
        """Extra flags for a source of the build."""
        words = shlex.split(entry["command"])
        if "-include" not in words:
            return []
        header = words[words.index("-include") + 1]
        if header not in self.made:
            made = os.path.join(self.where, f"{len(self.made)}.pch")
            subprocess.run(["clang++", *flags_of(entry), *EXTRA, "-Wno-pragma-system-header-outside-header", "-x", "c++-header",
                            header, "-o", made], cwd=entry["directory"], check=True, env=clang.environment())
            self.made[header] = made
        return ["-include-pch", self.made[header]]


def database(where, entries):
    with open(os.path.join(where, "compile_commands.json"), "w", encoding="utf-8") as out:
        json.dump([{"file": file, "directory": directory, "arguments": ["c++", *flags, "-c", file]}
                   for file, directory, flags in entries], out)


def look(where, files, jobs, extra, checks):
    """One clang-tidy for each file; whether it is content."""
    done = subprocess.run(["xargs", "-P", str(jobs), "-n", "1", "clang-tidy", "-p", where, "--quiet",
                           "--config-file=.clang-tidy", f"--checks={checks}", *(f"--extra-arg={word}" for word in extra)],
                          input="\n".join(files), text=True, capture_output=True, check=False, env=clang.environment())
    print("".join(line + "\n" for line in done.stdout.splitlines() if line), end="")
    if done.returncode and not done.stdout.strip():
        print(done.stderr)
    return done.returncode == 0


def syntax(files, compiled, where, jobs):
    folders = {}
    for file in files:
        name = os.path.basename(os.path.dirname(file))
        if name not in folders:
            folders[name] = Folder(name, compiled[file], where)
        folders[name].files.append(file)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        sources = sum(pool.map(Folder.split, folders.values()), [])
    sources.sort(reverse=True)  # so that no long one is the last
    database(where, [source[1:] for source in sources])
    return look(where, [file for _, file, *_ in sources], jobs, EXTRA, "-clang-analyzer-*")


def paths(files, compiled, where, jobs):
    headers = Precompiled(where)
    database(where, [(file, compiled[file]["directory"], flags_of(compiled[file]) + headers.flags(compiled[file]))
                     for file in files])
    return look(where, sorted(files, key=os.path.getsize, reverse=True), jobs, ANALYZER, analyzer_checks())


def compiled_in(build):
    """{source: how the build compiles it}, also where it compiles several as one (CMAKE_UNITY_BUILD)."""
    compiled = {}
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as commands:
        for entry in json.load(commands):
            compiled[entry["file"]] = entry
            if "/Unity/unity_" in entry["file"]:
                with open(entry["file"], encoding="utf-8") as unity:
                    compiled.update(dict.fromkeys(re.findall(r'^#include "(.*)"$', unity.read(), re.MULTILINE), entry))
    return compiled


def run(files, build, jobs):
    """Prints what clang-tidy says; whether it is content. Its errors come from .clang-tidy."""
    compiled = compiled_in(build)
    content = True
    for way in (syntax, paths):
        where = os.path.join(os.path.abspath(build), "tidy", way.__name__)
        os.makedirs(where, exist_ok=True)
        content = way([os.path.abspath(file) for file in files], compiled, where, jobs) and content
    return content
