"""Plain re-implementations of how public code computes a UDA step, to measure ours against.

Both run in fp32 with eager attention, every dropout of the checkpoint, each row padded to the maximum length, all rows
in every pass and torch's default AdamW. Separate: three passes, the teacher's without a gradient. Concatenated: one
pass with gradients for all three streams.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel

from uda.data.batches import Batch, Tokens


class Reference:
    """The encoder with a linear head on the mean of its features, and its optimiser."""

    def __init__(self, location: str, num_classes: int, length: int, pad_id: int) -> None:
        self.encoder: Any = AutoModel.from_pretrained(location, attn_implementation="eager", dtype=torch.float32)
        self.head = nn.Linear(self.encoder.config.hidden_size, num_classes)
        self.dropout = nn.Dropout(0.1)
        self.length, self.pad_id = length, pad_id
        parameters = [*self.encoder.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=2e-5, weight_decay=0.01)
        self.encoder.train()

    def logits(self, tokens: Tokens) -> Tensor:
        """[N, K] of rows padded to the maximum length."""
        missing = self.length - tokens.ids.shape[1]
        ids, mask = F.pad(tokens.ids, (0, missing), value=self.pad_id), F.pad(tokens.mask, (0, missing))
        features = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).float()
        return self.head(self.dropout((features * weights).sum(dim=1) / weights.sum(dim=1)))

    def step(self, batch: Batch, concatenated: bool) -> None:
        """One optimiser step; the more confident half of the unlabelled rows enters the consistency loss."""
        if concatenated:
            tokens = batch.labeled.followed_by(batch.weak, self.pad_id).followed_by(batch.strong, self.pad_id)
            sizes = [len(batch.labeled), len(batch.weak), len(batch.strong)]
            labeled, weak, strong = self.logits(tokens).split(sizes)
            weak = weak.detach()
        else:
            labeled = self.logits(batch.labeled)
            with torch.no_grad():
                weak = self.logits(batch.weak)
            strong = self.logits(batch.strong)
        confidence = weak.softmax(dim=-1).amax(dim=-1)
        kept = (confidence >= confidence.median()).float()
        targets = F.softmax(weak / 0.4, dim=-1)
        divergence = F.kl_div(F.log_softmax(strong, dim=-1), targets, reduction="none").sum(dim=-1)
        loss = F.cross_entropy(labeled, batch.labels) + (divergence * kept).sum() / kept.sum()
        loss.backward()
        nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
