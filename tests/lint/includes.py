#!/usr/bin/env python3
"""The module law: which module may include which, and where each third-party header lives. Prints each violation; exit 1 if there is one."""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parents[2]

# Module -> modules that it may include (besides itself), read from CMakeLists.txt so that the build and this check cannot differ.
modules = {}
for line in (root / "CMakeLists.txt").read_text().splitlines():
    found = re.match(r"april_module\((\w+)\s*(.*)\)", line)
    if found:
        words = found[2].split()
        names = []
        take = False
        for word in words:
            if word.isupper():
                take = word == "DEPENDS"
            elif take:
                names.append(word)
        unknown = [n for n in names if n not in modules]
        if unknown:
            sys.exit(f"CMakeLists.txt: module {found[1]} depends on {unknown}, which is not listed before it")
        modules[found[1]] = set(names)

# Third-party header -> directories or files (below lib/) that may include it.
homes = {
    r"zmq(\.hpp|\.h)$|zmq_addon": ["stream/"],
    r"zstd": ["stream/", "buffer/"],
    r"msgpack": ["stream/"],
    r"CLI/": ["cli/"],
    r"xxh": ["base/digest.cc"],
    r"nlohmann/": ["base/json.h"],
    r"pcre2": ["text/", "reward/"],
    r"gloo/": ["ranks/gloo_ranks.cc"],
    r"nccl|cuda": ["ranks/nccl_library.h"],
    r"(ATen|c10|torch)/": ["kernels/cpu/brgemm.cc"],
}

violations = []
include = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.M)
for folder in ("lib", "tools"):
    for path in sorted((root / folder).rglob("*")):
        if path.suffix not in (".h", ".cc", ".cu"):
            continue
        relative = path.relative_to(root / folder).as_posix()
        module = relative.split("/")[0] if folder == "lib" else None
        for quote, header in include.findall(path.read_text()):
            target = header.split("/")[0]
            if quote == '"' and module and target in modules and target != module and target not in modules[module]:
                violations.append(f"lib/{relative}: includes {header}, but {module} may only use {', '.join(sorted(modules[module])) or 'itself'}")
            if quote == '"' and module and target not in modules:
                violations.append(f"lib/{relative}: {header} is not written from lib/ (\"module/file.h\")")
            for pattern, places in homes.items():
                if re.search(pattern, header) and (quote == "<") and not (module and any(relative.startswith(p) for p in places)):
                    violations.append(f"{folder}/{relative}: <{header}> belongs to {', '.join(places)} alone")

names = {}
for path in sorted((root / "lib").rglob("*")):
    if path.suffix in (".h", ".cc"):
        names.setdefault(path.name, []).append(path.relative_to(root).as_posix())
violations += [f"file name {name} is used twice: {', '.join(paths)}" for name, paths in names.items() if len(paths) > 1]
violations += [f"lib/{m}: no README.md" for m in modules if not (root / "lib" / m / "README.md").exists()]
for m in modules:
    readme = root / "lib" / m / "README.md"
    if readme.exists() and len(readme.read_text().splitlines()) > 15:
        violations.append(f"lib/{m}/README.md: longer than 15 lines")

print("\n".join(violations))
sys.exit(bool(violations))
