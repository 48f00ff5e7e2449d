"""Scoring and generation one text at a time, through transformers' own forward and generate: what ours must equal."""

import torch

from maple.answering import encoding, generate, loglikelihood


@torch.inference_mode()
def score(model, tokeniser, requests) -> list[list[tuple[float, bool]]]:
    """(log-likelihood, whether each token was the likeliest) per option."""
    found = []
    for options in loglikelihood.sequences(tokeniser, requests, loglikelihood.context_length(model)):
        found.append([])
        for option in options:
            tokens = torch.tensor([option.tokens], device=model.device)
            logits = model(tokens[:, :-1]).logits[0, -option.answer :].float()
            answer = tokens[0, -option.answer :]
            logprobs = torch.log_softmax(logits, -1).gather(1, answer[:, None])
            found[-1].append((logprobs.double().sum().item(), bool((logits.argmax(-1) == answer).all())))
    return found


@torch.inference_mode()
def written(model, tokeniser, prompts, max_new_tokens, stop) -> list[str]:
    ends = sorted(generate.end_tokens(model, tokeniser))
    texts = []
    for prompt in prompts:
        tokens = torch.tensor(
            [encoding.encode(tokeniser, prompt)[-(loglikelihood.context_length(model) - max_new_tokens) :]],
            device=model.device,
        )
        found = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=ends,
            pad_token_id=ends[0],
        )
        texts.append(generate.cut(tokeniser.decode(found[0, tokens.shape[1] :], skip_special_tokens=True), stop))
    return texts
