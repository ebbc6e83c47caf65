#!/usr/bin/env python3
"""Prints the scaled rotation frequencies that tests/unit/model/config_test.cc holds. Needs torch and transformers."""
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

for kind, extra in [("llama3", {"low_freq_factor": 1.0, "high_freq_factor": 4.0}), ("yarn", {})]:
    config = transformers.LlamaConfig(hidden_size=64, num_attention_heads=4, head_dim=16, max_position_embeddings=512,
                                      rope_parameters={"rope_type": kind, "rope_theta": 10000.0, "factor": 8.0,
                                                       "original_max_position_embeddings": 64, **extra})
    frequencies, attention_factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    print(kind, attention_factor, ", ".join("%.9g" % f for f in frequencies.tolist()))
