"""The output head and its loss, over answer tokens only and a few of them at a time.

Logits of a whole pack would be the largest tensor of a training step (8,192 tokens by 32,000 words by 4 bytes are
1 GB, with the gradient twice that). The head is frozen, so each chunk's gradient is finished while its logits exist.
"""

import torch

from maple.training.limits import HEAD_LOGITS, HEAD_LOGITS_ON_GPU


def loss(hidden: torch.Tensor, head: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Summed negative log-likelihood (nats) of labels [A] under softmax(hidden [A, h] @ head' [h, V])."""
    return _Loss.apply(hidden, head, labels)


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, head, labels):
        total = hidden.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        numbers = HEAD_LOGITS if hidden.device.type == "cpu" else HEAD_LOGITS_ON_GPU
        rows = max(min(numbers // len(head), len(hidden)), 1)
        # The same memory for every chunk: asking for it anew takes a CPU longer than the softmax does.
        logits_of_all, p_of_all = (
            hidden.new_empty(rows, len(head)),
            hidden.new_empty(rows, len(head), dtype=torch.float32),
        )
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            answers = labels[part, None]
            logits, p = logits_of_all[: len(answers)], p_of_all[: len(answers)]
            torch.mm(hidden[part], head.t(), out=logits)
            torch.softmax(p.copy_(logits), -1, out=p)
            # log of the sum of exponentials, from the largest probability: that never underflows.
            logsum = logits.amax(-1).float() - p.amax(-1).log()
            total += (logsum - logits.gather(1, answers)[:, 0]).sum()
            if gradient is not None:
                p.scatter_add_(1, answers, p.new_full(answers.shape, -1.0))
                torch.mm(logits.copy_(p), head, out=gradient[part])
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx, g):
        (gradient,) = ctx.saved_tensors
        # In float32: rounded to bfloat16, 1 / (answer tokens of the step) is off by up to 0.4 %.
        return (gradient * g[None, None]).to(gradient.dtype), None, None
