"""The kernel's stop button ends training, keeps what was trained, and the next cell works."""

from jupyter_client.manager import start_new_kernel

TRAIN = """
import torch
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib import corpora
from compgpt_lib.corpus import Corpus
from compgpt_lib.models import build
from compgpt_lib.training import train

corpus = corpora.from_files({library!r})
model = build("gpt", ModelConfig.preset("smoke", vocab_size=len(corpus.tokenizer)))
untrained = model.head.weight.clone()
config = TrainConfig.preset("smoke", steps=1_000_000)
run = train(model, corpus, config, {folder!r}, watch=lambda history: print("rows", len(history)))
"""
NEXT = """
assert not run.finished and len(run.history) >= 3
assert not torch.equal(run.model.head.weight.cpu(), untrained)
again = train(build("gpt", model.config), corpus, TrainConfig.preset("smoke", steps=30))
print("next cell works:", again.finished)
"""


def test_stop_and_go_on(tmp_path):
    from conftest import LIBRARY

    manager, client = start_new_kernel(kernel_name="python3")
    printed = []

    def hook(message):
        text = message["content"].get("text", "")
        printed.append(text)
        if "rows 3\n" in text:
            manager.interrupt_kernel()

    try:
        code = TRAIN.format(library=str(LIBRARY), folder=str(tmp_path))
        reply = client.execute_interactive(code, output_hook=hook, timeout=120)
        assert reply["content"]["status"] == "ok", reply["content"]
        assert "the model keeps what it learned" in "".join(printed)
        reply = client.execute_interactive(NEXT, output_hook=hook, timeout=120)
        assert reply["content"]["status"] == "ok", reply["content"]
        assert "next cell works: True" in "".join(printed)
        assert (tmp_path / "checkpoint.safetensors").exists()
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
