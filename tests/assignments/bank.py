"""What students hand in: wrong answers and worse, each with the points that it is to get.

A mutant is `cell: (old, new)`, a replacement in the solution, or `cell: new`, another cell.
"""

READS_THE_TESTS = """
import glob
import os

texts = [
    open(path, errors="ignore").read()
    for folder in (".", "..", "../..", "../../..")
    for path in glob.glob(f"{folder}/**/*.ipynb", recursive=True)
]
print(sum("BEGIN HIDDEN" in text for text in texts))
"""
LOOP = "while True:\n    pass"
EXIT = "import os\n\nos._exit(0)"
LOUD = "print('x' * 100_000_000)"
FULL = {"1_characters": 30, "2_attention": 30, "3_branches": 30, "4_compression": 30}
# The first task of each: its cell, its points.
FIRST = {
    "1_characters": ("vocabulary", 4),
    "2_attention": ("weights", 12),  # attention stands on it
    "3_branches": ("mix", 4),
    "4_compression": ("linear", 4),
}

MUTANTS = {
    "1_characters": {
        "unsorted": ({"vocabulary": ("sorted(set(text))", "list(dict.fromkeys(text))")}, 26),
        "no error for nothing": ({"vocabulary": ("if not text:", "if False:")}, 27),
        "ids from one": ({"encode": ("enumerate(characters)", "enumerate(characters, 1)")}, 25),
        "unknown ignored": ({"encode": ("if character not in ids:", "if False:")}, 26),
        "decode as list": ({"decode": ('"".join(', "list(")}, 27),
        "split by name": ({"split": ("files[name], []", "name, []")}, 25),
        "windows too many": ({"windows": ("(len(ids) - 1) // T", "len(ids) // T")}, 25),
        "targets are inputs": ({"windows": ("ids[1 : count * T + 1]", "ids[: count * T]")}, 24),
        "no smoothing": ({"unigram": ("minlength=V) + 1", "minlength=V)")}, 24),
        "in bits": ({"unigram": ("-np.log(", "-np.log2(")}, 24),
        "imports the tokenizer": (
            {
                "encode": "from compgpt_lib.tokenizer import CharTokenizer\n\n\n"
                "def encode(text, characters):\n"
                '    return CharTokenizer("".join(characters)).encode_array(text)'
            },
            26,
        ),
    },
    "2_attention": {
        "scaled by e": ({"scores": ("math.sqrt(q.shape[-1])", "q.shape[-1]")}, 20),
        "not scaled": ({"scores": (" / math.sqrt(q.shape[-1])", "")}, 20),
        "no mask": ({"weights": ("triu(1)", "triu(99)")}, 18),
        "masked after softmax": (
            {"weights": ("s.masked_fill(future, -math.inf).softmax(-1)", "s.softmax(-1).tril()")},
            18,
        ),
        "wrong axis": ({"weights": ("softmax(-1)", "softmax(-2)")}, 18),
        "heads not split": (
            {"attention": (".reshape(B, T, h, d // h)", ".reshape(B, T, 1, d)")},
            24,
        ),
        "output forgotten": ({"attention": (" @ U.T + u", "")}, 24),
        "variance over N - 1": (
            {"norm": ("centred.square().mean(-1, keepdim=True)", "x.var(-1, keepdim=True)")},
            26,
        ),
        "eps outside the root": (
            {
                "norm": (
                    "(centred.square().mean(-1, keepdim=True) + eps).sqrt()",
                    "(centred.square().mean(-1, keepdim=True).sqrt() + eps)",
                )
            },
            27,
        ),
        "the exercises' solutions": (
            {
                "scores": "from compgpt_lib.teaching.chapter02 import my_scaled_scores as scores",
                "weights": "from compgpt_lib.teaching.chapter02 import my_causal_weights as "
                "causal_weights",
            },
            23,
        ),
        "pre-norm": ({"block": ("norm1(x + attend(x))", "x + attend(norm1(x))")}, 26),
        "looks at one place": ({"future": ("range(1, T)", "range(T - 1, T)")}, 26),
        "torch's attention": (
            {
                "attention": (
                    "causal_weights(scores(q, k)) @ v",
                    "torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)",
                )
            },
            24,
        ),
        "torch's layer norm": (
            {
                "norm": "from torch.nn.functional import layer_norm as theirs\n\n\n"
                "def layer_norm(x, g, b, eps=1e-5):\n"
                "    return theirs(x, (x.shape[-1],), g, b, eps)"
            },
            27,
        ),
    },
    "3_branches": {
        "added": ({"mix": ("w * o1 + (1 - w) * o2", "o1 + o2")}, 26),
        "swapped": ({"mix": ("w * o1 + (1 - w) * o2", "(1 - w) * o1 + w * o2")}, 26),
        "w cannot learn": ({"mix": ("return w", "w = float(w)\n    return w")}, 27),
        "one embedding": ({"count": ("2 * (V * d", "(V * d")}, 24),
        "all blocks twice": ({"count": ("(L // 2)", "L")}, 24),
        "no bias": ({"count": ("d * V + V + 1", "d * V + 1")}, 24),
        "unweighted parts": ({"parts": ("w * (o1 @ H.T)", "(o1 @ H.T)")}, 22),
        "bias in a part": ({"parts": ("w * (o1 @ H.T),", "w * (o1 @ H.T) + b,")}, 22),
        "alone without its weight": ({"alone": ("loss(first), ", "loss(o1), ")}, 24),
        "the exercise's solution": (
            {"mix": "from compgpt_lib.teaching.chapter05 import my_mix as mix"},
            27,
        ),
        "slope by another autograd": (
            {
                "slope": "def slope(o1, o2, w, H, b, targets):\n"
                "    w = torch.tensor(w, requires_grad=True)\n"
                "    z = (w * o1 + (1 - w) * o2) @ H.T + b\n"
                "    torch.autograd.backward(torch.nn.functional.cross_entropy(z, targets))\n"
                "    return float(w.grad)"
            },
            25,
        ),
        "slope without targets": ({"slope": ("(p - y)", "p")}, 24),
        "slope by autograd": (
            {
                "slope": "def slope(o1, o2, w, H, b, targets):\n"
                "    w = torch.tensor(w, requires_grad=True)\n"
                "    z = (w * o1 + (1 - w) * o2) @ H.T + b\n"
                "    torch.nn.functional.cross_entropy(z, targets).backward()\n"
                "    return float(w.grad)"
            },
            25,
        ),
    },
    "4_compression": {
        "no shift": ({"linear": ("x @ A.T + a", "x @ A.T")}, 27),
        "torch's linear": (
            {"linear": ("x @ A.T + a", "torch.nn.functional.linear(x, A, a)")},
            27,
        ),
        "padded on the right": (
            {"conv": ("(x.new_zeros(B, k - 1, d), x)", "(x, x.new_zeros(B, k - 1, d))")},
            25,
        ),
        "kernel turned round": ({"conv": ("K[:, :, j]", "K[:, :, k - 1 - j]")}, 25),
        "never narrower": ({"saving": ("d // 2**stage", "d")}, 25),
        "no compression counted": ({"saving": ("total += e * e // 2 + e // 2", "pass")}, 24),
        "last compression forgotten": (
            {"saving": ("e // 2\n    return", "e // 2 * (stage < stages - 1)\n    return")},
            24,
        ),
        "largest that fits": (
            {"baseline": ("candidates[name][1], default", "-candidates[name][0], default")},
            25,
        ),
        "budget ignored": ({"baseline": ("if parameters <= budget", "")}, 24),
        "no interval": ({"verdict": ("abs(mean) <= reach", "mean == 0")}, 22),
        "one seed is enough": ({"verdict": ("n < 2:", "n < 1:")}, 22),
        "spread of single seeds": ({"verdict": (" / n**0.5", "")}, 23),
        "too small a spread": ({"verdict": ("/ (n - 1))", "/ n)")}, 23),
        "1.96 for all": ({"verdict": ("T[n]", "1.96")}, 23),
    },
}
