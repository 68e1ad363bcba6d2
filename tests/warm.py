"""Loads, in the process that the fault tests fork from, all that a training run loads late."""

import tempfile

import workers

with tempfile.TemporaryDirectory() as folder:
    workers.at_home(folder)
    text = workers.Path(folder) / "text.py"
    text.write_text("import pandas as pd\n" * 200)
    corpus = workers.corpora.from_files(text)
    config = workers.short_run(steps=1)
    workers.train(workers.fresh(corpus), corpus, config, folder, progress=False)
