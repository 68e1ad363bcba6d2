"""compgpt: four small decoder-only transformers to build, train, look into and compare.

Import the module you need (`from compgpt_lib import models`): nothing heavy is loaded before.
"""

__version__ = "0.1.0"
