"""The library, for people with gradients or a training loop of their own.

No configuration, no files, nothing changed but what is handed back; :mod:`spice` hands it out.

>>> from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
>>> import spice
>>> from spice.sandbox import checkpoint
>>> folder = checkpoint("proxy")  # any causal language model, with LoRA adapters or without
>>> model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
>>> tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
>>> rows = [{"instruction": f"Add {i} and {i}.", "response": str(i + i)} for i in range(40)]
>>> G = spice.gradients(model, tokenizer, rows, max_tokens=512)  # n × d, float32
>>> G.shape
(40, 27648)
>>> trust = spice.reliability(G).weights()  # n numbers
>>> picked = spice.select(G, k=5, alpha=10.0, weights=trust)
>>> len(picked.indices), len(picked.gains)  # positions of rows, and nats, in the order of picking
(5, 5)
>>> found = spice.diagnose(picked, G, alpha=10.0, weights=trust)
>>> found.k, found.theory.violations
(5, 0)
"""

from spice import gradients
from spice.library.diagnosis import Diagnosis, diagnose
from spice.library.selection import DEFAULTS, Options, select
from spice.library.trust import reliability

__all__ = ["DEFAULTS", "Diagnosis", "Options", "diagnose", "gradients", "reliability", "select"]
