"""What a trace says in numbers: what heads look at, what stages keep, what branches contribute.

Letters: T time (positions), d width, h heads, V vocabulary, N rows (positions of many windows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from compgpt_lib.evaluation import mean_interval
from compgpt_lib.introspection import Trace, part_names, trace
from compgpt_lib.layers import ConvCompression, LinearCompression
from compgpt_lib.models import Branch, Decoder, ParallelGPT
from compgpt_lib.support.checks import Positive, Real, Shape, checked

CLASSES = ("letter", "digit", "bracket", "quote", "sign", "space", "indent", "newline")
PATTERNS = (
    "previous character",
    "two characters back",
    "start of line",
    "same character",
    "open bracket",
    "induction",
)
REPEATED = 3  # characters that must have occurred before, for induction to have a target
# A head is named after a pattern to which it gives clearly more than even attention does: so much
# more, at so many characters of the text or more.
CLEAR, LEAST = 0.1, 8
BACK = (0, 1, 2, 4, 8, 16)  # characters back that a probe is asked for
Rows = Annotated[Tensor, Shape("N", "d", floating=True)]
Windows = Annotated[Tensor, Shape("W", "T")]
Stages = Annotated[Mapping[str, Tensor], "what stage_rows(model, windows) returned"]
Pair = Annotated[ParallelGPT, 'a p-gpt, as build("p-gpt", config)']
_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "\"'`"


@checked
def character_classes(text: str) -> list[str]:
    """Return the class of each character: one of CLASSES.

    The underscore is a letter, blanks before the first other character of a line are indent, and
    whatever fits no class is a sign.
    """
    classes: list[str] = []
    blank = True
    for character in text:
        if character == "\n":
            kind = "newline"
        elif character.isspace():
            kind = "indent" if blank else "space"
        elif character.isalpha() or character == "_":
            kind = "letter"
        elif character.isdigit():
            kind = "digit"
        elif character in _OPENING + _CLOSING:
            kind = "bracket"
        else:
            kind = "quote" if character in _QUOTES else "sign"
        blank = character == "\n" or (blank and kind == "indent")
        classes.append(kind)
    return classes


@checked
def pattern_targets(text: str) -> dict[str, Tensor]:
    """Return for each of PATTERNS what a head of that kind looks at: (T, T) of true and false.

    The previous character; the one before it; the first character of the line; every earlier place
    of the same character; the innermost bracket that is open (brackets inside strings count as any
    other). Induction (arXiv 2209.11895): the character that followed when the three characters that
    end here last occurred, without overlap. Three, since in code they foretell the character that
    follows three times in four (one character one time in three), and every text of 128 has such
    places. Three times the same character, as in an indent, have no target: there the places before
    are all alike. To look there by chance is rare: even attention gives it 0.02.
    """
    time = len(text)
    targets = {name: torch.zeros(time, time, dtype=torch.bool, device="cpu") for name in PATTERNS}
    line, opened = 0, list[int]()
    for t, character in enumerate(text):
        if t:
            targets["previous character"][t, t - 1] = True
            line = t if text[t - 1] == "\n" else line
        if t > 1:
            targets["two characters back"][t, t - 2] = True
        if line < t:
            targets["start of line"][t, line] = True
        if opened:
            targets["open bracket"][t, opened[-1]] = True
        if character in _OPENING:
            opened.append(t)
        elif character in _CLOSING and opened:
            opened.pop()
        start = t + 1 - REPEATED
        recent = text[max(0, start) : t + 1]
        before = text.rfind(recent, 0, max(0, start)) if len(set(recent)) > 1 else -1
        if before >= 0:
            targets["induction"][t, before + REPEATED] = True
    points = torch.tensor([ord(character) for character in text], device="cpu")
    targets["same character"] = (points[:, None] == points).tril(-1)
    return targets


@checked
def head_patterns(record: Trace) -> pd.DataFrame:
    """Return what share of its attention each head gives to each of PATTERNS, from 0 to 1.

    A share is the mean over the positions that have such a target (nan if none has). The last row
    is the share of a head that looks at everything before it evenly: what a score must be compared
    with. Raises ValueError for a trace of ids by a model without a vocabulary.
    """
    heads, shares = _shares(record)
    index = pd.MultiIndex.from_tuples([*heads, ("even attention", 0)], names=["block", "head"])
    means = {name: there.mean(-1).tolist() for name, there in shares.items()}
    return pd.DataFrame(means, index=index)


@checked
def head_names(record: Trace) -> pd.Series:
    """Return the one of PATTERNS after which each head is named, "" where none is clear enough.

    The rule: the head's share less even attention's has its 95 % interval, over the positions that
    have such a target, above CLEAR with both ends, and these positions are LEAST or more. Where
    several patterns pass, the largest difference names the head. So a head that gives brackets 12 %
    has no name, nor has any head of an untrained model.
    """
    heads, shares = _shares(record)
    index = pd.MultiIndex.from_tuples(heads, names=["block", "head"])
    names = pd.Series("", index=index, dtype=object, name="pattern")
    most = dict.fromkeys(heads, CLEAR)
    for name, there in shares.items():
        for head, more in zip(heads, there[:-1] - there[-1], strict=True):  # (positions,)
            difference = float(more.mean())
            if len(more) < LEAST or difference <= most[head]:
                continue
            if mean_interval(more.tolist())[0] > CLEAR:
                names[head], most[head] = name, difference
    return names


def _shares(record: Trace) -> tuple[list[tuple[str, int]], dict[str, Tensor]]:
    """Return the heads, and their attention to each pattern's targets, (heads + 1, positions).

    The last row is even attention.
    """
    text = _text_of(record)
    even = torch.ones(len(text), len(text), device="cpu").tril()
    even = even / even.sum(-1, keepdim=True)
    heads = {
        (block, head): m for block, maps in record.attention.items() for head, m in enumerate(maps)
    }
    weights = torch.stack([*heads.values(), even]).float()  # (heads + 1, T, T)
    shares = {}
    for name, target in pattern_targets(text).items():
        there = target.any(-1)  # (T,)
        shares[name] = (weights * target).sum(-1)[:, there]
    return list(heads), shares


@checked
def induction_scores(model: Decoder, repeats: Positive = 16, length: Positive = 24) -> pd.DataFrame:
    """Return where each head looks from the letters of a random string that it reads once more.

    Each of `repeats` strings has `length` different letters and then the same again. The columns
    are shares of attention, means over the second halves: to the letter before, to the same letter
    in the first half, and to the letter after that one, where an induction head looks (arXiv
    2209.11895). The last row is even attention: what a score must be compared with. Raises
    ValueError for a string that does not fit the alphabet or the model's context.
    """
    tokens = model.vocabulary().tokens
    letters = [tokens.index(c) for c in "abcdefghijklmnopqrstuvwxyz" if c in tokens]
    most = min(len(letters), model.config.context_length // 2)
    if length > most:
        raise ValueError(f"length must be at most {most} for this model, got {length}")
    rng, names = np.random.default_rng(0), part_names(model)
    offsets = {"letter before": 1, "earlier copy": length, "after earlier copy": length - 1}
    even = torch.ones(2 * length, 2 * length, device="cpu").tril()
    sums: dict[str, Tensor] = {}
    for _ in range(repeats):
        once = torch.from_numpy(rng.permutation(letters)[:length])
        attention = trace(model, torch.cat((once, once))).attention
        maps = {
            names[f"{block}.heads.{head}"]: weights
            for block, heads in attention.items()
            for head, weights in enumerate(heads)
        }
        for name, weights in (maps | {"even attention": even / even.sum(-1, keepdim=True)}).items():
            shares = [weights.diagonal(-offset)[-length:].mean() for offset in offsets.values()]
            sums[name] = sums.get(name, 0) + torch.stack(shares) / repeats
    table = {name: shares.tolist() for name, shares in sums.items()}
    return pd.DataFrame.from_dict(table, orient="index", columns=[*offsets]).rename_axis("head")


def _text_of(record: Trace) -> str:
    """Return the text that was traced; raises ValueError where only its ids are known."""
    if len(record.text) != len(record.ids):
        raise ValueError("record must be of a text: trace(model, text)")
    return record.text


@checked
def losses(
    logits: Annotated[Tensor, Shape("T", "V")], ids: Annotated[Tensor, Shape("T")]
) -> Tensor:
    """Return the loss in nats of each prediction, (T - 1,): logits (T, V) against ids (T,)."""
    if ids.shape != logits.shape[:1]:
        raise ValueError(
            f"logits must be (T, V) and ids (T,), got {tuple(logits.shape)}, {tuple(ids.shape)}"
        )
    return F.cross_entropy(logits[:-1].float(), ids[1:].long(), reduction="none")


@checked
def contributions(model: Pair, record: Trace) -> dict[str, Tensor]:
    """Return what each branch of p-gpt adds to the logits before it is weighted, (T, V) each.

    The head is linear, so exactly: logits = w * first + (1 - w) * second + head.bias. Raises
    TypeError for another model, as for one with a weight for each character.
    """
    if type(model).mix is not ParallelGPT.mix:
        raise TypeError(
            f"model must mix its branches by one weight each, but {model.name} does not"
        )
    head = model.head.weight.detach().float().cpu()
    parts = {}
    for branch, blocks in model.branches.items():
        last = f"branches.{branch}.{len(blocks) - 1}"  # type: ignore[arg-type]
        if last not in record.residual:
            raise ValueError(f"record must be a trace of this p-gpt: it lacks {last}")
        parts[branch] = record.residual[last].float() @ head.T  # (T, V)
    return parts


def _weights(model: ParallelGPT) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in model.branch_weights().items()}


@checked
def pushes(model: Pair, record: Trace) -> dict[str, Tensor]:
    """Return how far each branch pushes for the character that came, (T - 1,) each.

    It is the branch's weighted contribution to that character's logit less its mean over all
    characters (what it adds to all of them alike decides nothing).
    """
    weights, result = _weights(model), {}
    for branch, logits in contributions(model, record).items():
        came = logits[:-1].gather(-1, record.ids[1:, None])[:, 0]
        result[branch] = weights[branch] * (came - logits[:-1].mean(-1))
    return result


@checked
def branch_table(model: Pair, record: Trace) -> pd.DataFrame:
    """Return by class of character: how many, loss with both branches and with one, who decided.

    `first decided` is the share of characters for which the first branch pushed harder.
    """
    push, parts = pushes(model, record), contributions(model, record)
    alone = {name: model.only(cast(Branch, name)) for name in model.branches}
    weights = {name: _weights(branch)[name] for name, branch in alone.items()}
    text = _text_of(record)
    bias = model.head.bias.detach().float().cpu()
    table = pd.DataFrame(
        {
            "class": character_classes(text)[1:],
            "both": losses(record.logits, record.ids).numpy(),
            **{
                f"{name} alone": losses(weights[name] * part + bias, record.ids).numpy()
                for name, part in parts.items()
            },
            "first decided": (push["first"] > push["second"]).float().numpy(),
        }
    )
    groups = table.groupby("class")
    means = groups.mean().reindex([name for name in CLASSES if name in groups.groups])
    means.insert(0, "characters", groups.size())
    return means


def _centred(name: str, rows: Tensor) -> Tensor:
    if not torch.isfinite(rows).all():
        raise ValueError(f"{name} must be finite numbers")
    rows = rows.double()
    return rows - rows.mean(0)


@checked
def spectrum(rows: Rows) -> Tensor:
    """Return the shares of variance of rows (N, d) along their principal components, falling."""
    values = torch.linalg.svdvals(_centred("rows", rows)).square()
    return values / values.sum().clamp_min(1e-300)


def effective_rank(rows: Tensor) -> float:
    """Return how many directions rows (N, d) use: exp of the entropy of their `spectrum`.

    n equal directions give n, one dominant direction gives 1. The entropy is of shares of variance,
    as principal components have them; the effective rank of Roy and Vetterli (2007) is of shares of
    the singular values, their roots, and larger.
    """
    shares = spectrum(rows)
    return float(torch.special.entr(shares).sum().exp())


def _paired(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    if len(before) != len(after):
        raise ValueError(
            "before and after must have the same number of rows, got "
            f"{len(before)} and {len(after)}"
        )
    return _centred("before", before), _centred("after", after)


@checked
def variance_kept(before: Rows, after: Rows) -> float:
    """Return how much of the variance of `before` (N, d) the best linear map of `after` recovers.

    1 means that nothing is lost. N should be many times the width, or the map fits by chance.
    """
    x, y = _paired(before, after)
    basis = torch.linalg.svd(y, full_matrices=False)
    real = basis.S > 1e-9 * basis.S.max().clamp_min(1e-300)
    return float((basis.U[:, real].T @ x).square().sum() / x.square().sum().clamp_min(1e-300))


@checked
def cka(before: Rows, after: Rows) -> float:
    """Return the linear centred kernel alignment of two sets of rows, 0 to 1 (arXiv 1905.00414)."""
    x, y = _paired(before, after)
    norms = torch.linalg.norm(x.T @ x) * torch.linalg.norm(y.T @ y)
    return float((y.T @ x).square().sum() / norms.clamp_min(1e-300))


@checked
def stage_rows(model: Decoder, windows: Windows) -> dict[str, Tensor]:
    """Return what each stage passes on over many windows (W, T) of ids: (W, T, width) each."""
    try:
        traces = [trace(model, ids).residual for ids in windows]
    except (TypeError, ValueError) as error:
        raise type(error)(f"windows: {error}") from None
    return {name: torch.stack([rows[name] for rows in traces]) for name in traces[0]}


@checked
def probe(
    rows: Annotated[Tensor, Shape("W", "T", "width")],
    labels: Windows,
    ridge: Annotated[float, Real(above=0)] = 1e-3,
) -> float:
    """Return how often a linear map of rows (W, T, width) finds labels (W, T) on windows unseen.

    The map is a ridge regression to one-hot labels, fitted on the first three fourths of the
    windows and asked on the others. Labels below 0 are left out. Raises ValueError for fewer than
    four windows.
    """
    if labels.shape != rows.shape[:2] or len(rows) < 4:
        raise ValueError(
            "rows must be (W, T, width) with W of 4 or more and labels (W, T), got "
            f"{tuple(rows.shape)} and {tuple(labels.shape)}"
        )
    cut = 3 * len(rows) // 4

    def part(which: slice) -> tuple[Tensor, Tensor]:
        labelled = labels[which] >= 0
        x = rows[which][labelled].double()
        return torch.cat((x, x.new_ones(len(x), 1)), dim=-1), labels[which][labelled]

    (x, y), (unseen, answers) = part(slice(cut)), part(slice(cut, None))
    if not len(y) or not len(answers):
        return float("nan")
    # Centred on nothing, with a constant of its own: X^T X is all that the solution needs.
    square = x.T @ x + ridge * len(x) * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    sums = x.new_zeros(int(labels.max()) + 1, x.shape[-1]).index_add_(0, y, x)
    weights = torch.linalg.solve(square, sums.T)
    return float(((unseen @ weights).argmax(-1) == answers).double().mean())


@checked
def stage_table(stages: Stages, windows: Windows) -> pd.DataFrame:
    """Return stage by stage what is kept: one row for each of `stage_rows(model, windows)`.

    Width and effective rank; of the stage before, `variance kept` and `cka`; then how often a
    linear probe names the next character, the current one and the one k back (on windows unseen).
    The last row, "always the commonest", is what a probe must be compared with.
    """
    for rows in stages.values():
        if rows.ndim != 3 or rows.shape[:2] != windows.shape:
            raise ValueError("stages must be what stage_rows(model, windows) returned")
    labels = {"next": torch.full_like(windows, -1)}
    labels["next"][:, :-1] = windows[:, 1:]
    for k in BACK:
        label = torch.full_like(windows, -1)
        label[:, k:] = windows[:, : max(0, windows.shape[1] - k)]
        labels[f"{k} back" if k else "current"] = label
    table, before = {}, None
    for name, rows in stages.items():
        flat = rows.flatten(0, 1)
        table[name] = {
            "width": flat.shape[-1],
            "effective rank": effective_rank(flat),
            "variance kept": float("nan") if before is None else variance_kept(before, flat),
            "cka": float("nan") if before is None else cka(before, flat),
            **{label: probe(rows, wanted) for label, wanted in labels.items()},
        }
        before = flat
    constant = torch.zeros(*windows.shape, 1, device="cpu")
    table["always the commonest"] = {
        name: probe(constant, wanted) for name, wanted in labels.items()
    }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("stage")


@checked
def logit_lens(model: Decoder, record: Trace) -> dict[str, Tensor]:
    """Return the logits (T, V) that the head would give if it read each stage.

    Stages of lc-gpt and cc-gpt go through the compressions that are still ahead and no block. The
    method is nostalgebraist's logit lens (2020). Raises TypeError for p-gpt, whose head reads a
    mixture that no single stage is.
    """
    if isinstance(model, ParallelGPT):
        raise TypeError("model must be a gpt, lc-gpt or cc-gpt: p-gpt has no single depth to read")
    halving = (LinearCompression, ConvCompression)
    names = list(record.residual)
    missing = [name for name in names if name not in dict(model.named_modules())]
    if missing:
        raise ValueError(f"record must be a trace of this model, which has no {missing[0]}")
    lens = {}
    with torch.no_grad():
        for index, name in enumerate(names):
            x = record.residual[name].to(model.device)[None]  # (1, T, width)
            for later in names[index + 1 :]:
                layer = model.get_submodule(later)
                if isinstance(layer, halving):
                    x = layer(x)  # (1, T, width / 2)
            lens[name] = model.head(x)[0].float().cpu()  # (T, V)
    return lens


@checked
def planes(stages: Annotated[Sequence[Rows], "a list of tensors (N, d)"]) -> list[Tensor]:
    """Return each stage's rows (N, d) on its first two principal components, (N, 2), comparable.

    Each map is scaled to one unit of spread and turned (or mirrored) to lie on the one before as
    well as it can (orthogonal Procrustes): what then moves has moved in the model.
    """
    maps: list[Tensor] = []
    for rows in stages:
        centred = _centred("stages", rows)
        if maps and len(centred) != len(maps[-1]):
            raise ValueError("stages must all have the same number of rows")
        svd = torch.linalg.svd(centred, full_matrices=False)
        plane = (svd.U * svd.S)[:, :2]  # (N, 2)
        plane = F.pad(plane, (0, 2 - plane.shape[1]))
        plane = plane / plane.square().mean().sqrt().clamp_min(1e-12)
        # The signs of principal components are arbitrary: here the farthest point lies above 0.
        plane = plane * plane.gather(0, plane.abs().argmax(0, keepdim=True)).sign()
        if maps:
            turn = torch.linalg.svd(plane.T @ maps[-1])
            plane = plane @ (turn.U @ turn.Vh)
        maps.append(plane)
    return [plane.float() for plane in maps]
