"""Ask one model everything and keep its answers: a cell, a base without adapter, or the experiment.

    python -m stages.answer --name mistral-7b-8bit.alpaca.r8.s42
    python -m stages.answer --name mistral-7b-8bit
    python -m stages.answer --name experiment

No score comes of it: stages/score.py turns stored answers into scores, on any machine.
"""

import dataclasses

from maple.answering import run
from maple.config import bills, catalogue, command
from maple.config.cell import Base
from maple.config.params import EXPERIMENT
from maple.core import storage
from maple.core.errors import MapleError, nearest
from maple.models import adapter_check
from maple.planning import auto, memory


def main(params, arguments, bases=None):
    destination = params.folder("answers", arguments.name)
    subject, record, spent = ask(params, arguments.name, destination, bases=bases)
    bills.write(params, "answer", subject.name, spent)
    count = sum(sheet["n"] for sheet in record["sheets"])
    print(f"{subject.name}: {count:,} answers in {len(record['sheets'])} tasks and languages: {destination}")


def ask(params, name, destination, kept=None, bases=None):
    """Write a model's answer folder; what `kept` (a folder, by default the stage's own) has answers to is not asked again.
    `bases` (maple.models.bases.Bases): of who asks several."""
    subject, weights, adapter, quantisation = subject_of(params, name)

    asked = auto.asked(params.evaluation, weights, subject.evaluated_bits)
    if adapter and adapter_check.is_virtual(adapter):
        # Tokens before every prompt that no tokeniser makes: only the model's own forward pass takes them.
        asked = dataclasses.replace(asked, path="plain")

    def load():
        memory.check_address_space()
        from maple.config import environment
        from maple.models import loading

        environment.settle(params)
        how = subject.evaluated_bits, quantisation, loading.device(), asked.unpack_4bit
        load_tuned = bases.tuned if bases else loading.load_tuned
        model = load_tuned(weights, adapter, catalogue.models()[subject.model], *how)
        return model, loading.load_tokeniser(weights)

    work = (kept or params.work / "predictions") / subject.name
    record, spent = run.answer(subject, load, asked, params.artifacts / "sources", work, destination, params.profile)
    return subject, record, spent | {"batch_tokens": asked.batch_tokens, "unpack_4bit": asked.unpack_4bit}


def subject_of(params, name):
    """(what is asked, its base's folder, its adapter's folder or None, how the base is quantised).

    What an adapter is, its own record says: parameters that have moved on since it was trained do not rename it.
    """
    pinned = storage.read_json(params.artifacts / "sources" / "record.json")["models"]
    root = params.artifacts / "sources"
    if name != EXPERIMENT and "." not in name:
        base = Base.parse(name)
        if base.model not in pinned:
            raise MapleError(
                f"'{name}' names no base that is here",
                why=f"no model '{base.model}' was fetched for this profile",
                do=nearest(base.model, pinned),
            )
        identity = _identity(pinned, base.model, dataclasses.asdict(params.recipe.quantisation))
        subject = run.Subject(name, "base", base.model, base.bits, base.bits, identity=identity)
        return subject, catalogue.models()[base.model].folder(root), None, params.recipe.quantisation
    params.cell_of(name)
    asked = params.evaluation.base_precision
    adapter = params.artifacts / "adapters" / name
    trained = storage.read_record(adapter / "record.json", "maple.adapter/1")
    if trained["name"] != name:
        raise MapleError(
            f"{adapter} holds the adapter {trained['name']}",
            why="its record says so; under another name its scores would stand in the wrong row",
            do=f"delete {adapter} and run `dvc repro`",
        )
    notes = adapter_check.notes(adapter, catalogue.models()[trained["model"]])
    quantisation = trained["recipe"]["quantisation"]
    subject = run.Subject(
        name,
        "experiment" if name == EXPERIMENT else "cell",
        trained["model"],
        trained["bits"],
        trained["bits"] if asked == "trained" else int(asked),
        trained["dataset"],
        trained["rank"],
        trained["seed"],
        trained["heldout_loss"],
        _identity(pinned, trained["model"], quantisation) | {"adapter": adapter_check.identity(adapter)},
        notes,
    )
    folder = catalogue.models()[trained["model"]].folder(root)
    return subject, folder, adapter, dataclasses.replace(params.recipe.quantisation, **quantisation)


def _identity(pinned, model, quantisation):
    files = {path: file["sha256"] for path, file in pinned[model]["files"].items()}
    return {"base": storage.fingerprint(files, 32), "quantisation": quantisation}


if __name__ == "__main__":
    command.run(__doc__, main, name="name of a cell, a base, or experiment")
