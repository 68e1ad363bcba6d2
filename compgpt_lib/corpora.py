"""Where text comes from: installed packages, files, the hub; filtered, split, built once."""

from __future__ import annotations

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
from typing import Annotated, Any, NamedTuple

import numpy as np
from filelock import FileLock
from tqdm.auto import tqdm

from compgpt_lib.corpus import Corpus, Split
from compgpt_lib.support import checks, hashes
from compgpt_lib.support.checks import Positive, checked
from compgpt_lib.support.files import advising, home, resolved, write_text
from compgpt_lib.tokenizer import CharTokenizer, count_characters

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
# What a folder of code holds besides a person's own, as hidden folders do.
NOT_OWN = {"node_modules", "__pycache__", "site-packages", "dist-packages"}
FORMAT = 3  # raise it when what is built from the same texts changes


Suffix = Annotated[str, 'the end of a file name, as ".py"']
Rows = Annotated[Sequence[Positive], "two numbers of rows, as (10_000, 1_000)"]
Column = Annotated[str, "the name of a column"]


class Document(NamedTuple):
    """A text, where it came from, and the split it belongs to."""

    name: str
    split: Split
    text: str


def open_corpus(source: str | Path = "installed") -> Corpus:
    """Return `installed()`, `from_huggingface()` ("huggingface"), or the corpus of a path."""
    if source == "installed":
        return installed()
    if source == "huggingface":
        return from_huggingface()
    return from_files(resolved(source, "source"))


@checked
def installed(min_count: Positive = 100) -> Corpus:
    """Return the corpus of the data-science packages installed here, built on the first call.

    Files that mention pandas, sklearn, matplotlib or seaborn, without tables of numbers and
    near-duplicates; about one file in ten is held out. Characters that occur fewer than
    `min_count` times in all become the unknown one.
    """
    versions = {}
    for package in PACKAGES.values():
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            raise ImportError(f"the corpus needs {package}: pip install it") from None
    skipped: Counter[str] = Counter()

    def documents() -> Iterator[Document]:
        for name, text in _distinct(_readable(_installed_files(), skipped), skipped):
            yield Document(name, _split_of(name), text)

    about = {"name": "installed", "packages": versions, "min_count": min_count}
    about["licences"] = {name: _licence(name) for name in versions}
    return _open_or_build(about, documents, skipped)


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
        below = _own_files(root, suffix, skipped) if root.is_dir() else [root]
        base = root if root.is_dir() else root.parent
        for file in filter(Path.is_file, below):
            files.setdefault(file.resolve(), file.relative_to(base).as_posix())
    texts = list(_readable(((name, file) for file, name in files.items()), skipped))
    if not texts:
        raise ValueError(
            f"no readable text in {', '.join(map(str, roots))}: "
            f"{len(files)} files end in suffix {suffix!r}, skipped {dict(skipped) or 'none'}"
        )
    digest = hashlib.sha256()
    for name, text in texts:
        digest.update(f"{name}\0{text}\0".encode("utf-8", "surrogatepass"))

    by_file = len(texts) >= 10 and len({_split_of(name) for name, _ in texts}) == 2

    def documents() -> Iterator[Document]:
        for name, text in texts:
            if by_file:
                yield Document(name, _split_of(name), text)
            else:
                cut = len(text) - max(1, len(text) // 10)
                yield Document(name, "train", text[:cut])
                yield Document(name, "valid", text[cut:])

    about = {"name": "files", "sha256": digest.hexdigest(), "min_count": min_count}
    return _open_or_build(about, documents, skipped)


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
    local = {"train": _local("train", train), "valid": _local("valid", valid)}
    if len(rows) != 2:
        raise ValueError(f"rows must be two numbers of rows, got {checks.short(rows)}")
    counts = [int(count) for count in rows]
    skipped: Counter[str] = Counter()

    def documents() -> Iterator[Document]:
        splits: tuple[tuple[Split, str, str, int], ...] = (
            ("train", str(train), "train", counts[0]),
            ("valid", str(valid), "validation", counts[1]),
        )
        for split, source, part, count in splits:
            raw = _rows(source, local[split], part, count, column, only=train != valid)
            for index, row in enumerate(raw):
                if text := _cleaned(row, skipped):
                    yield Document(f"{source}/{index}", split, text)

    about: dict[str, Any] = {"name": "huggingface", "rows": counts, "column": column}
    about["sources"] = [_stamp(train, local["train"]), _stamp(valid, local["valid"])]
    return _open_or_build(about | {"min_count": min_count}, documents, skipped)


def _paths(paths: Any) -> list[Path]:
    single = isinstance(paths, str | bytes | os.PathLike)
    if not single and not isinstance(paths, Iterable):
        raise TypeError(f"paths must be a path or several, got {checks.short(paths)}")
    roots = [resolved(path, "paths") for path in ([paths] if single else paths)]
    if not roots:
        raise ValueError(f"paths must name a file or a folder, got {checks.short(paths)}")
    return roots


def _own_files(root: Path, suffix: str, skipped: Counter[str]) -> list[Path]:
    """Return the files below a folder that end in `suffix`, in the same order on every system."""
    files: list[Path] = []
    for folder, folders, names in os.walk(root):
        own = []
        for name in folders:
            if name.startswith(".") or name in NOT_OWN:
                skipped["hidden or installed folder"] += 1
            elif os.path.exists(os.path.join(folder, name, "pyvenv.cfg")):
                skipped["hidden or installed folder"] += 1
            else:
                own.append(name)
        folders[:] = own
        ends = (name for name in names if name.lower().endswith(suffix.lower()))
        files.extend(Path(folder, name) for name in ends)
    return sorted(files, key=lambda path: path.parts)


def _installed_files() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ImportError(f"the corpus needs {PACKAGES[package]}: pip install it")
        root = Path(spec.submodule_search_locations[0])
        for file in sorted(root.rglob("*.py"), key=lambda file: file.as_posix()):
            name = f"{package}/{file.relative_to(root).as_posix()}"
            if not GENERATED.search(name):
                yield name, file


def _readable(
    files: Iterator[tuple[str, Path]], skipped: Counter[str]
) -> Iterator[tuple[str, str]]:
    for name, file in files:
        try:
            raw = file.read_bytes()
        except OSError:
            skipped["unreadable"] += 1
            continue
        if text := _cleaned(raw, skipped):
            yield name, text


def _cleaned(raw: bytes | str, skipped: Counter[str]) -> str:
    """Return a text as a corpus holds it, or, counted as skipped, an empty one for none.

    Without a byte order mark, lines ended by a line feed alone, the same on every system.
    """
    if (b"\0" if isinstance(raw, bytes) else "\0") in raw:  # type: ignore[operator]
        skipped["binary"] += 1
        return ""
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
    except UnicodeDecodeError:
        skipped["not UTF-8"] += 1
        return ""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    text = PATCH.sub("", text)
    if not text.strip():
        skipped["empty"] += 1
        return ""
    return text


def _distinct(texts: Iterator[tuple[str, str]], skipped: Counter[str]) -> Iterator[tuple[str, str]]:
    """Leave out what the paper's filter leaves out, tables of numbers, and near-duplicates.

    A near-duplicate has four fifths of its distinct longer lines in one file kept before.
    """
    holders: dict[int, list[int]] = {}  # a line's hash: the files kept that have it
    for name, text in texts:
        if not KEYWORDS.search(text):
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


def _licence(package: str) -> str:
    about = metadata.metadata(package)
    if "License-Expression" in about:
        return str(about["License-Expression"])
    classifiers = about.get_all("Classifier") or []
    names = [line.rsplit(" :: ", 1)[-1] for line in classifiers if line.startswith("License")]
    return ", ".join(names) or "see the package"


def _local(name: str, source: Any) -> Path | None:
    """Return the path of a local data file, or None for the name of a data set of the hub."""
    path = resolved(source, name)
    if path.is_dir():
        raise ValueError(f"{name} must be a file or a data set of the hub, but {path} is a folder")
    if path.suffix.lower() not in FILES and path.exists():
        raise ValueError(f"{name}: {path} must end in .jsonl, .json or .parquet")
    if path.suffix.lower() in FILES and not path.exists():
        raise FileNotFoundError(f"{name}: there is no file at {path}")
    return path if path.exists() else None


def _stamp(source: str | Path, local: Path | None) -> str:
    return str(source) if local is None else f"{local.name}:{hashes.of_file(local)}"


def _rows(
    source: str, local: Path | None, part: str, count: int, column: str, only: bool
) -> Iterator[str]:
    """Yield rows of a data set's split `part`, or of its only split where `only` allows that."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            "data sets of the hub need the datasets package: pip install datasets"
        ) from error
    if local is None:
        parts = datasets.load_dataset(source, streaming=True)
    else:
        kind = FILES[local.suffix.lower()]
        parts = datasets.load_dataset(kind, data_files=escape(str(local)), streaming=True)
    if part not in parts and not (only and len(parts) == 1):
        raise ValueError(f"{source} has no split {part!r}; it has {', '.join(map(str, parts))}")
    rows = iter(parts.get(part, next(iter(parts.values()))).take(count))
    for index in range(count):
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # pyarrow's, or one of datasets' own, as the file may be broken
            raise ValueError(
                f"{source} cannot be read after its row {index} ({error}): see that it is whole, "
                "and that its texts are UTF-8"
            ) from error
        if column not in row:
            raise ValueError(f"{source} has no column {column!r}; it has {', '.join(row)}")
        text = row[column]
        if not isinstance(text, str | None):
            raise ValueError(
                f"{source}: column must name a column of texts, but {column!r} has "
                f"{checks.short(text)}; it has {', '.join(row)}"
            )
        yield text or ""


def _open_or_build(
    about: dict[str, Any], documents: Callable[[], Iterable[Document]], skipped: Counter[str]
) -> Corpus:
    about = {"format": FORMAT, **about}
    key = hashes.of_json(about)[:16]
    folder = home() / "data" / "corpora" / f"{about['name']}-{key}"
    corpus = _load(folder)
    if corpus is not None:
        return corpus
    with advising(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            corpus = _load(folder)  # another process may have built it meanwhile
            if corpus is None:
                shutil.rmtree(folder, ignore_errors=True)  # damaged
                part = folder.with_name(f"{folder.name}.part")
                shutil.rmtree(part, ignore_errors=True)  # of a build that was killed
                part.mkdir()
                try:
                    _build(part, about, documents(), skipped)
                    part.rename(folder)
                except BaseException:
                    shutil.rmtree(part, ignore_errors=True)
                    raise
                corpus = _load(folder)
    if corpus is None:
        raise OSError(f"{folder} cannot be read after it was written: check the disk")
    return corpus


def _load(folder: Path) -> Corpus | None:
    """Return the corpus in a folder, or None where there is none that is whole."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        tokenizer = CharTokenizer.load(folder / "tokenizer.json")
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("train", "valid")
        }
        whole = all(
            hashes.of_file(folder / f"{name}.npy") == manifest["sha256"][name] for name in arrays
        )
        right = tokenizer.fingerprint == manifest["fingerprint"]
        if not (whole and right and manifest.pop("check") == hashes.of_json(manifest)):
            return None
    except Exception:  # damaged bytes make readers raise nearly anything, tokenize.TokenError even
        return None
    return Corpus(folder, tokenizer, arrays["train"], arrays["valid"], manifest)


def _build(
    folder: Path, about: dict[str, Any], documents: Iterable[Document], skipped: Counter[str]
) -> None:
    texts: dict[str, list[str]] = {"train": [], "valid": []}
    # A bar only where it is worth one: a notebook shows the same whether it builds or opens.
    progress = tqdm(
        documents, desc=f"corpus {about['name']}", unit=" files", delay=30, mininterval=1
    )
    for document in progress:
        texts[document.split].append(document.text)
    counts = count_characters(text for split in texts.values() for text in split)
    joined = {split: "\n".join(parts) for split, parts in texts.items()}
    for split, text in joined.items():
        if not text:
            raise ValueError(f"the {split} text would be empty: give more or longer files")
    tokenizer = CharTokenizer.from_text(joined.values(), min_count=about["min_count"])
    for split, text in joined.items():
        np.save(folder / f"{split}.npy", tokenizer.encode_array(text), allow_pickle=False)
    tokenizer.save(folder / "tokenizer.json")
    manifest = about | {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {split: len(parts) for split, parts in texts.items()},
        "skipped": dict(skipped),
        "characters": {split: len(text) for split, text in joined.items()},
        "distinct_characters": int((counts > 0).sum()),
        "vocabulary": len(tokenizer),
        "fingerprint": tokenizer.fingerprint,
        "sha256": {split: hashes.of_file(folder / f"{split}.npy") for split in texts},
    }
    manifest["check"] = hashes.of_json(manifest)
    write_text(folder / "manifest.json", json.dumps(manifest, indent=2, sort_keys=True))
