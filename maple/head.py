"""The output head and its loss, over answer tokens only and a few of them at a time.

Logits of a whole pack would be the largest tensor of a training step (8,192 tokens by 32,000 words by 4 bytes are
1 GB, with the gradient twice that). The head is frozen, so each chunk's gradient is finished while its logits exist.
"""

import torch

# Logits that exist at a time, in numbers.
CHUNK = 4_000_000


def loss(hidden: torch.Tensor, head: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Summed negative log-likelihood (nats) of labels [A] under softmax(hidden [A, h] @ head' [h, V])."""
    return _Loss.apply(hidden, head, labels)


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, head, labels):
        total = hidden.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        rows = max(CHUNK // len(head), 1)
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            answers = labels[part, None]
            logits = (hidden[part] @ head.t()).float()
            p = torch.softmax(logits, -1)
            # log of the sum of exponentials, from the largest probability: that never underflows.
            logsum = logits.amax(-1) - p.amax(-1).log()
            total += (logsum - logits.gather(1, answers)[:, 0]).sum()
            if gradient is not None:
                p.scatter_add_(1, answers, p.new_full(answers.shape, -1.0))
                gradient[part] = p.to(head.dtype) @ head
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx, g):
        (gradient,) = ctx.saved_tensors
        return gradient * g.to(gradient.dtype), None, None
