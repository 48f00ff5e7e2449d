"""Score one model on all tasks and languages: a cell, a base without adapter, or the experiment.

    python -m stages.evaluate --name mistral-7b-8bit.alpaca.r8.s42
    python -m stages.evaluate --name mistral-7b-8bit
    python -m stages.evaluate --name experiment
"""

import dataclasses

from maple.answering import run
from maple.config import catalogue, command
from maple.core import storage
from maple.config.cell import Base


def main(params, arguments):
    subject, weights, adapter, quantisation = subject_of(params, arguments.name)

    def load():
        from maple.config import environment
        from maple.models import loading

        environment.settle(params)
        base = loading.load_base(weights, subject.evaluated_bits, quantisation, loading.device())
        return loading.attach_adapter(base, adapter) if adapter else base.eval(), loading.load_tokeniser(weights)

    found = run.evaluate(
        subject,
        load,
        params.evaluation,
        params.artifacts / "sources",
        params.work / "predictions" / subject.name,
        params.artifacts / "scores" / subject.name,
        params.profile,
    )
    summary = run.averages(found["scores"])
    if subject.kind == "experiment":
        storage.write_json(params.artifacts / "experiment.json", summary)
    shown = ", ".join(f"{task} {next(iter(v.values())):.3f}" for task, v in summary.items() if task != "average")
    smoke = " (SMOKE)" if params.profile == "smoke" else ""
    print(f"{subject.name}{smoke}: {shown}; average {summary.get('average', float('nan')):.3f}")


def subject_of(params, name):
    """(what is scored, its base's folder, its adapter's folder or None, how the base is quantised)."""
    pinned = storage.read_json(params.artifacts / "sources" / "record.json")["models"]
    root = params.artifacts / "sources"
    if name != "experiment" and "." not in name:
        base = Base.parse(name)
        identity = _identity(pinned, base.model, params.recipe.quantisation)
        subject = run.Subject(name, "base", base.model, base.bits, base.bits, identity=identity)
        return subject, catalogue.models()[base.model].folder(root), None, params.recipe.quantisation
    cell, recipe = params.cell_of(name)
    asked = params.evaluation.base_precision
    adapter = params.artifacts / "adapters" / name
    trained = storage.read_json(adapter / "record.json")
    weights = storage.sha256(adapter / "adapter_model.safetensors")
    subject = run.Subject(
        name,
        "experiment" if name == "experiment" else "cell",
        cell.base.model,
        cell.base.bits,
        cell.base.bits if asked == "trained" else int(asked),
        cell.dataset,
        cell.rank,
        cell.seed,
        trained["heldout_loss"],
        _identity(pinned, cell.base.model, recipe.quantisation) | {"adapter": weights},
    )
    return subject, catalogue.models()[cell.base.model].folder(root), adapter, recipe.quantisation


def _identity(pinned, model, quantisation):
    files = {path: file["sha256"] for path, file in pinned[model]["files"].items()}
    return {"base": storage.fingerprint(files, 32), "quantisation": dataclasses.asdict(quantisation)}


if __name__ == "__main__":
    command.run(__doc__, main, name="name of a cell, a base, or experiment")
