# @title Set-up (run this first)
# Nothing to do where the kit is installed. On Colab and the like it is installed from the newest
# wheel beside this notebook or in your Drive; packages you already have are left alone.
import importlib.util
import re
import shutil
import sys
import tempfile
from pathlib import Path

if importlib.util.find_spec("compgpt_lib") is None:
    places = [Path(), Path("/content"), Path("/content/drive/MyDrive/compgpt")]
    wheels = [path for place in places for path in place.glob("compgpt-*.whl")]
    source = "ADDRESS"
    if wheels:  # the newest, under its own name: a second upload is called "... (1).whl"
        newest = max(wheels, key=lambda path: path.stat().st_mtime)
        source = Path(tempfile.mkdtemp(), re.sub(r" ?\(\d+\)", "", newest.name))
        shutil.copy(newest, source)
    assert source, "no compgpt-*.whl here: unpack compgpt-colab.zip, upload its wheel, run again"
    # %pip install --quiet --no-deps {source} rapidfuzz
if "google.colab" in sys.modules:  # its own widgets are on by default, those of others are not
    sys.modules["google.colab"].output.enable_custom_widget_manager()
