"""Where text comes from: installed packages, files, the hub; filtered, split, built once."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from glob import escape
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from filelock import FileLock
from tqdm.auto import tqdm

from compgpt_lib.corpus import Corpus, Split
from compgpt_lib.pairs import PairTokenizer
from compgpt_lib.support import checks, hashes
from compgpt_lib.support.checks import Positive, Seed, checked
from compgpt_lib.support.files import advising, home, resolved, write_text
from compgpt_lib.tokenizer import CharTokenizer

PACKAGES = {  # what is imported: what is installed
    "pandas": "pandas",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
    "seaborn": "seaborn",
    "statsmodels": "statsmodels",
}
FILES = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}  # as `datasets` calls them
KEYWORDS = re.compile("pandas|sklearn|matplotlib|seaborn")  # the filter of the paper's data set
GENERATED = re.compile(r"(^|/)(_version|_version_meson|version|__config__|_build_config)\.py$")
# What Windows wheels add to a package's __init__.py, so that the text is the same everywhere.
PATCH = re.compile(r"\n\n# start delvewheel patch\n.*?# end delvewheel patch\n", re.DOTALL)
EXAMPLE = re.compile(r"^ *>>>.*\n(?:.*\S.*\n?)*", re.MULTILINE)  # and what it prints
# What a folder of code holds besides a person's own, as hidden folders do.
NOT_OWN = {"node_modules", "__pycache__", "site-packages", "dist-packages"}
SPLITS: tuple[Split, Split] = ("train", "valid")
FORMAT = 3  # raise it when what is built from the same texts changes


Suffix = Annotated[str, 'the end of a file name, as ".py"']
Rows = Annotated[Sequence[Positive], "two numbers of rows, as (10_000, 1_000)"]
Column = Annotated[str, "the name of a column"]
Texts = Iterable[tuple[Split, str]]  # each with the split it belongs to


def open_corpus(source: str | Path = "installed") -> Corpus:
    """Return the corpus of a name, or of a path.

    "installed", "huggingface", "prose", "headers" and "recall" are what `installed`,
    `from_huggingface`, `prose`, `headers` and `recall` return; "pairs 1024" is `in_pairs` of 1,024.
    """
    named: dict[str, Callable[[], Corpus]] = {
        "installed": installed,
        "huggingface": from_huggingface,
        "prose": prose,
        "headers": headers,
        "recall": recall,
    }
    if source in named:
        return named[str(source)]()
    if match := re.fullmatch(r"pairs (\d+)", str(source)):
        return in_pairs(installed(), int(match[1]))
    return from_files(resolved(source, "source"))


@checked
def installed(min_count: Positive = 100) -> Corpus:
    """Return the corpus of the data-science packages installed here, built on the first call.

    Files that mention pandas, sklearn, matplotlib or seaborn, without tables of numbers and
    near-duplicates; about one file in ten is held out. Characters that occur fewer than
    `min_count` times in all become the unknown one.
    """
    try:
        versions = {name: metadata.version(name) for name in PACKAGES.values()}
    except metadata.PackageNotFoundError as error:
        raise ImportError(f"the corpus needs {error.name}: pip install it") from None
    about = {"name": "installed", "packages": versions, "min_count": min_count}
    about["licences"] = {name: _licence(name) for name in versions}
    skipped: Counter[str] = Counter()
    kept = _distinct(_readable(_installed_files(), skipped), skipped)
    return _open_or_build(about, ((_split_of(name), text) for name, text in kept), skipped)


def prose() -> Corpus:
    """Return a corpus of English: the docstrings of packages that `installed` does not read.

    Without examples of code; in the vocabulary of `installed()`.
    """
    return _other("prose", ("numpy", "scipy", "sympy", "networkx", "torch"), "*.py", _docstrings)


def headers() -> Corpus:
    """Return a corpus of C++: the headers that come with torch; in the vocabulary of `installed()`.

    Headers that a program wrote are left out.
    """
    return _other("headers", ("torch",), "include/**/*.h", lambda text: [text])


def _other(
    name: str, packages: Sequence[str], pattern: str, texts: Callable[[str], list[str]]
) -> Corpus:
    """Return a corpus of another kind of text that is found in installed packages."""
    tokenizer = installed().tokenizer
    about = {"name": name, "packages": {each: metadata.version(each) for each in packages}}
    skipped: Counter[str] = Counter()

    def parts() -> Iterator[tuple[str, str]]:
        for package in packages:
            root = _root_of(package)
            files = sorted(root.glob(f"**/{pattern}"), key=lambda file: file.as_posix())
            named = ((file, f"{package}/{file.relative_to(root).as_posix()}") for file in files)
            for file, text in _readable(named, skipped):
                if "/test" in file or "enerated" in text[:2000] or "/ATen/ops/" in file:
                    skipped["test or generated"] += 1
                    continue
                for part in texts(text):
                    yield file, part

    kept = _distinct(parts(), skipped, keywords=None)
    return _open_or_build(about, ((_split_of(at), text) for at, text in kept), skipped, tokenizer)


def _docstrings(source: str) -> list[str]:
    """Return the longer docstrings of a module, without examples of code and what they print."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    prose = []
    for text in found:
        kept = EXAMPLE.sub("", text or "")
        if len(kept) >= 200:
            prose.append(kept)
    return prose


@checked
def in_pairs(corpus: Corpus, vocab_size: Positive) -> Corpus:
    """Return the text of a corpus in byte pairs, `vocab_size` tokens, learned from its beginning.

    Its manifest counts characters, its splits hold tokens. Raises ValueError for fewer tokens than
    the text has characters.
    """
    about = {
        "name": f"{corpus.name} in pairs",
        "of": corpus.manifest["sha256"],
        "vocab_size": int(vocab_size),
    }
    start = corpus.text("train", 0, 4_000_000)
    tokenizer = PairTokenizer.learn(
        start.splitlines(keepends=True), "".join(corpus.tokenizer.tokens), vocab_size
    )
    whole: Texts = ((split, corpus.text(split)) for split in SPLITS)
    return _open_or_build(about, whole, Counter(), tokenizer)


@checked
def recall(pairs: Positive = 4, lines: Positive = 300_000, seed: Seed = 0) -> Corpus:
    """Return a made-up text in which each line names letters with digits, then asks for them.

    A line is `pairs` letters, each with a digit, then the same pairs in another order: a digit in
    its second half can be known by who looks back (associative recall, arXiv 2312.04927).
    """
    if pairs > 26:
        raise ValueError(f"pairs must be at most 26, the letters there are, got {pairs}")
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))

    def line() -> str:
        keys = rng.choice(letters, pairs, replace=False)
        told = np.char.add(keys, rng.integers(10, size=pairs).astype(str))
        return "".join(told) + "?" + "".join(rng.permutation(told))

    about = {"name": "recall", "pairs": int(pairs), "lines": int(lines), "seed": int(seed)}
    texts: Texts = (("valid" if n % 10 == 0 else "train", line()) for n in range(lines))
    return _open_or_build(about, texts, Counter())


@checked
def from_files(paths: Any, suffix: Suffix = ".py", min_count: Positive = 1) -> Corpus:
    """Return the corpus of your own files or folders (searched for files with `suffix`).

    `paths` is a path, or several.

    About one file in ten is held out; where that leaves a split empty, and of fewer than ten
    files, the last tenth of each. Within a folder that you name, hidden folders are left out
    (.git, .venv, .ipynb_checkpoints), and so are __pycache__, node_modules, site-packages and
    virtual environments. These, and files that are empty, binary, unreadable or not UTF-8, are
    counted in the manifest as skipped. Upper and lower case in `suffix` are the same.

    Raises FileNotFoundError for a missing path, ValueError for one that no file can have or
    where nothing readable is found.
    """
    roots = _paths(paths)
    skipped: Counter[str] = Counter()
    files: dict[Path, str] = {}  # a file that two paths lead to must not be in both splits
    for root in roots:
        if not root.exists():
            raise FileNotFoundError(f"paths: there is no file or folder at {root}")
        base = root if root.is_dir() else root.parent
        below = _own_files(root, suffix, skipped) if root.is_dir() else [root]
        for file in filter(Path.is_file, below):
            files.setdefault(file.resolve(), file.relative_to(base).as_posix())
    texts = list(_readable(files.items(), skipped))
    if not texts:
        raise ValueError(
            f"no readable text in {', '.join(map(str, roots))}: "
            f"{len(files)} files end in suffix {suffix!r}, skipped {dict(skipped) or 'none'}"
        )
    digest = hashlib.sha256()
    for name, text in texts:
        digest.update(f"{name}\0{text}\0".encode("utf-8", "surrogatepass"))
    about = {"name": "files", "sha256": digest.hexdigest(), "min_count": min_count}
    return _open_or_build(about, _divided(texts), skipped)


@checked
def from_huggingface(
    train: Any = "huggingface-course/codeparrot-ds-train",
    valid: Any = "huggingface-course/codeparrot-ds-valid",
    rows: Rows = (10_000, 1_000),
    column: Column = "content",
    min_count: Positive = 1,
) -> Corpus:
    """Return the first rows of two data sets of the hub, or of local .json(l)/.parquet files.

    The defaults are the paper's data set; nothing is downloaded beyond the rows asked for.
    A data set's split "train" or "validation" is read, or its only one. Texts that are empty
    or binary are counted in the manifest as skipped. Raises ImportError without the `datasets`
    package, FileNotFoundError for a missing file, ValueError for a missing split or column, or
    a column that holds no texts.
    """
    if len(rows) != 2:
        raise ValueError(f"rows must be two numbers of rows, got {checks.short(rows)}")
    sources = _source("train", train), _source("valid", valid)
    stamps = [
        source if isinstance(source, str) else f"{source.name}:{hashes.of_file(source)}"
        for source in sources
    ]
    counts = [int(count) for count in rows]
    about = {"name": "huggingface", "sources": stamps, "rows": counts, "column": column}
    skipped: Counter[str] = Counter()
    texts = _hub_texts(sources, counts, column, skipped)
    return _open_or_build(about | {"min_count": min_count}, texts, skipped)


def _paths(paths: Any) -> list[Path]:
    several = isinstance(paths, Iterable) and not isinstance(paths, str | bytes | os.PathLike)
    roots = [resolved(path, "paths") for path in (paths if several else [paths])]
    if not roots:
        raise ValueError(f"paths must name a file or a folder, got {checks.short(paths)}")
    return roots


def _own_files(root: Path, suffix: str, skipped: Counter[str]) -> list[Path]:
    """Return the files below a folder that end in `suffix`, in the same order on every system."""
    files: list[Path] = []
    for folder, folders, names in os.walk(root):
        for name in folders[:]:
            rented = os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
            if name.startswith(".") or name in NOT_OWN or rented:
                skipped["hidden or installed folder"] += 1
                folders.remove(name)
        ends = (name for name in names if name.lower().endswith(suffix.lower()))
        files.extend(Path(folder, name) for name in ends)
    return sorted(files, key=lambda path: path.parts)


def _installed_files() -> Iterator[tuple[Path, str]]:
    for package in PACKAGES:
        root = _root_of(package)
        for file in sorted(root.rglob("*.py"), key=lambda file: file.as_posix()):
            name = f"{package}/{file.relative_to(root).as_posix()}"
            if not GENERATED.search(name):
                yield file, name


def _root_of(package: str) -> Path:
    """Return the folder of an installed package; raises ImportError where there is none."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"the corpus needs {PACKAGES.get(package, package)}: pip install it")
    return Path(spec.submodule_search_locations[0])


def _readable(
    files: Iterable[tuple[Path, str]], skipped: Counter[str]
) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file that holds one."""
    for file, name in files:
        try:
            raw = file.read_bytes().decode("utf-8")
        except OSError:
            skipped["unreadable"] += 1
        except UnicodeDecodeError:
            skipped["not UTF-8"] += 1
        else:
            if text := _cleaned(raw, skipped):
                yield name, text


def _cleaned(text: str, skipped: Counter[str]) -> str:
    """Return a text as a corpus holds it, or, counted as skipped, an empty one for none.

    Without a byte order mark, lines ended by a line feed alone, the same on every system.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    text = PATCH.sub("", text)
    if "\0" in text or not text.strip():
        skipped["binary" if "\0" in text else "empty"] += 1
        return ""
    return text


def _distinct(
    texts: Iterator[tuple[str, str]],
    skipped: Counter[str],
    keywords: re.Pattern[str] | None = KEYWORDS,
) -> Iterator[tuple[str, str]]:
    """Leave out what the paper's filter leaves out, tables of numbers, and near-duplicates.

    A near-duplicate has four fifths of its distinct longer lines in one file kept before.
    """
    holders: dict[int, list[int]] = {}  # a line's hash: the files kept that have it
    for name, text in texts:
        if keywords is not None and not keywords.search(text):
            skipped["no keyword"] += 1
            continue
        if sum(map(text.count, "0123456789")) > 0.2 * len(text):
            skipped["table of numbers"] += 1
            continue
        lines = {line.strip() for line in text.split("\n")}
        keys = {_hash(line) for line in lines if len(line) > 20}
        shared = Counter(file for key in keys for file in holders.get(key, ()))
        if keys and shared and max(shared.values()) >= 0.8 * len(keys):
            skipped["near-duplicate"] += 1
            continue
        index = len(holders)
        for key in keys:
            files = holders.setdefault(key, [])
            if len(files) < 100:  # a line that stands everywhere tells nothing
                files.append(index)
        yield name, text


def _hash(text: str) -> int:
    raw = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")


def _split_of(name: str) -> Split:
    return "valid" if _hash(name) % 10 == 0 else "train"


def _divided(texts: list[tuple[str, str]]) -> Texts:
    """Yield whole files for a split, or, of few, the beginning of each and its last tenth."""
    by_file = len(texts) >= 10 and len({_split_of(name) for name, _ in texts}) == 2
    for name, text in texts:
        if by_file:
            yield _split_of(name), text
        else:
            cut = len(text) - max(1, len(text) // 10)
            yield "train", text[:cut]
            yield "valid", text[cut:]


def _licence(package: str) -> str:
    about = metadata.metadata(package)
    if "License-Expression" in about:
        return str(about["License-Expression"])
    classifiers = about.get_all("Classifier") or []
    names = [line.rsplit(" :: ", 1)[-1] for line in classifiers if line.startswith("License")]
    return ", ".join(names) or "see the package"


def _source(name: str, source: Any) -> Path | str:
    """Return the path of a local data file, or else the name of a data set of the hub."""
    path = resolved(source, name)
    if path.is_dir():
        raise ValueError(f"{name} must be a file or a data set of the hub, but {path} is a folder")
    if path.exists() and path.suffix.lower() not in FILES:
        raise ValueError(f"{name}: {path} must end in .jsonl, .json or .parquet")
    if path.suffix.lower() in FILES and not path.exists():
        raise FileNotFoundError(f"{name}: there is no file at {path}")
    return path if path.exists() else str(source)


def _hub_texts(
    sources: Sequence[Path | str], counts: Sequence[int], column: str, skipped: Counter[str]
) -> Texts:
    """Yield the texts in a column of two data sets: one to learn from, one that is held out."""
    splits: tuple[tuple[Split, str], ...] = (("train", "train"), ("valid", "validation"))
    for (split, part), source, count in zip(splits, sources, counts, strict=True):
        for row in _rows(source, part, count, only=sources[0] != sources[1]):
            if column not in row:
                raise ValueError(f"{source} has no column {column!r}; it has {', '.join(row)}")
            if not isinstance(row[column], str | None):
                raise ValueError(
                    f"{source}: column must name a column of texts, but {column!r} has "
                    f"{checks.short(row[column])}; it has {', '.join(row)}"
                )
            if text := _cleaned(row[column] or "", skipped):
                yield split, text


def _rows(source: Path | str, part: str, count: int, only: bool) -> Iterator[dict[str, Any]]:
    """Yield rows of a data set's split `part`, or of its only split where `only` allows that."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            "data sets of the hub need the package `datasets`: pip install datasets"
        ) from error
    if isinstance(source, str):
        parts = datasets.load_dataset(source, streaming=True)
    else:
        kind = FILES[source.suffix.lower()]
        parts = datasets.load_dataset(kind, data_files=escape(str(source)), streaming=True)
    if part not in parts and not (only and len(parts) == 1):
        raise ValueError(f"{source} has no split {part!r}; it has {', '.join(map(str, parts))}")
    index = 0
    try:
        for row in parts.get(part, next(iter(parts.values()))).take(count):
            yield row
            index += 1
    except Exception as error:  # pyarrow's, or one of datasets' own, as the file may be broken
        raise ValueError(
            f"{source} cannot be read after its row {index} ({error}): check that it is "
            "complete, and that its texts are UTF-8"
        ) from error


def _open_or_build(
    about: dict[str, Any],
    texts: Texts,
    skipped: Counter[str],
    tokenizer: CharTokenizer | None = None,
) -> Corpus:
    """Open a corpus, or build it; in a vocabulary of its own, unless a tokenizer is given."""
    if tokenizer is not None:
        about = about | {"vocabulary of": tokenizer.fingerprint}
    about = {"format": FORMAT, **about}
    key = hashes.of_json(about)[:16]
    folder = home() / "data" / "corpora" / f"{about['name']}-{key}"
    corpus = _load(folder)
    if corpus is None:
        with advising(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                corpus = _load(folder)  # another process may have built it meanwhile
                if corpus is None:
                    _build(folder, lambda part: _write(part, about, texts, skipped, tokenizer))
                    corpus = _load(folder)
    if corpus is None:
        raise OSError(f"{folder} cannot be read after it was written: check the disk")
    return corpus


def _load(folder: Path) -> Corpus | None:
    """Return the corpus in a folder, or None where there is none that is whole."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        tokenizer = PairTokenizer.load(folder / "tokenizer.json")  # of either kind
        train, valid = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in SPLITS)
        sums = {name: hashes.of_file(folder / f"{name}.npy") for name in SPLITS}
        whole = manifest.pop("check") == hashes.of_json(manifest) and sums == manifest["sha256"]
        if not whole or tokenizer.fingerprint != manifest["fingerprint"]:
            return None
    except Exception:  # damaged bytes make readers raise nearly anything, tokenize.TokenError even
        return None
    return Corpus(folder, tokenizer, train, valid, manifest)


def _build(folder: Path, write: Callable[[Path], None]) -> None:
    """Build a corpus in place of what is in the folder, whole or not at all."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a build that was killed
    part.mkdir()
    try:
        write(part)
        shutil.rmtree(folder, ignore_errors=True)  # damaged
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(
    folder: Path,
    about: dict[str, Any],
    texts: Texts,
    skipped: Counter[str],
    tokenizer: CharTokenizer | None,
) -> None:
    parts: dict[Split, list[str]] = {"train": [], "valid": []}
    # A bar only where it is worth one: a notebook shows the same whether it builds or opens.
    for split, text in tqdm(
        texts, desc=f"corpus {about['name']}", unit=" files", delay=30, mininterval=1
    ):
        parts[split].append(text)
    joined = {split: "\n".join(parts[split]) for split in parts}
    for split, text in joined.items():
        if not text:
            raise ValueError(f"the {split} text would be empty: give more or longer files")
    if tokenizer is None:
        tokenizer = CharTokenizer.from_text(joined.values(), min_count=about.get("min_count", 1))
    tokenizer.save(folder / "tokenizer.json")
    for split, text in joined.items():
        np.save(folder / f"{split}.npy", tokenizer.encode_array(text), allow_pickle=False)
    manifest = about | {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {split: len(parts[split]) for split in parts},
        "skipped": dict(skipped),
        "characters": {split: len(text) for split, text in joined.items()},
        "vocabulary": len(tokenizer),
        "fingerprint": tokenizer.fingerprint,
        "sha256": {split: hashes.of_file(folder / f"{split}.npy") for split in parts},
    }
    manifest["check"] = hashes.of_json(manifest)
    write_text(folder / "manifest.json", json.dumps(manifest, indent=2, sort_keys=True))
