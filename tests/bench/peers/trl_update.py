"""TRL GRPOTrainer's update on recorded rollouts: its own loss, backward, clipping and AdamW; nothing is generated. One JSON line an update.

    trl_update.py PEERS ROLLOUTS GROUPS PER_DEVICE_BATCH UPDATES
"""
import json
import os
import sys
import tempfile
import time

import recorded
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

peers, batch, updates = sys.argv[1], int(sys.argv[4]), int(sys.argv[5])
groups = recorded.groups(sys.argv[2], int(sys.argv[3]))
rollouts = [rollout for group in groups for rollout in group]
torch.set_num_threads(os.cpu_count())


def padded(rows, left):
    length = max(len(row) for row in rows)
    ids, mask = torch.zeros(len(rows), length, dtype=torch.long), torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        at = slice(length - len(row), length) if left else slice(0, len(row))
        ids[i, at], mask[i, at] = torch.from_numpy(row), 1
    return ids, mask


class Recorded(GRPOTrainer):
    def _generate_and_score_completions(self, _):
        prompt_ids, prompt_mask = padded([prompt for prompt, _ in rollouts], True)
        completion_ids, completion_mask = padded([response for _, response in rollouts], False)
        advantages = torch.cat([torch.from_numpy(recorded.advantages(group)) for group in groups]).float()
        return {"prompt_ids": prompt_ids, "prompt_mask": prompt_mask, "completion_ids": completion_ids, "completion_mask": completion_mask,
                "advantages": advantages, "num_items_in_batch": completion_mask.sum()}


class Clock(TrainerCallback):
    """From the first micro-batch to the end of the optimiser's step."""

    def on_step_begin(self, args, state, control, **_):
        self.begin = time.perf_counter()

    def on_step_end(self, args, state, control, **_):
        if state.global_step > 1:  # the first one warms up
            print(json.dumps({"peer": "trl", "per_device_batch": batch, "update_s": time.perf_counter() - self.begin}), flush=True)


tokenizer = AutoTokenizer.from_pretrained(peers + "/model/hf")
tokenizer.padding_side, tokenizer.pad_token = "left", "<|endoftext|>"
model = AutoModelForCausalLM.from_pretrained(peers + "/model/hf", dtype=torch.float32)
settings = GRPOConfig(
    output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=True, per_device_train_batch_size=batch, gradient_accumulation_steps=len(rollouts) // batch,
    num_generations=len(groups[0]), max_completion_length=max(len(response) for _, response in rollouts), learning_rate=1e-5, lr_scheduler_type="constant",
    max_steps=updates + 1, logging_steps=1, beta=0.0, temperature=1.0, loss_type="dapo", epsilon_high=0.28, gradient_checkpointing=False, report_to=[],
    save_strategy="no")
Recorded(model=model, reward_funcs=lambda completions, **_: [0.0] * len(completions), args=settings,
         train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "recorded"}]}] * 1000), processing_class=tokenizer,
         callbacks=[Clock()]).train()
