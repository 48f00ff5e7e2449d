"""Decide one claim: make the part of the grid that it reads, and no more, then judge it.

    python -m stages.claim --profile paper --claim mistral-above-gpt4-and-palm2
    python -m stages.claim --claim groups-alike --part one-configuration

`python -m stages.plan --claim` shows a claim's parts, what each costs and gives up. What is trained and answered serves a
later run of the whole grid; the verdict of the part `exact` is the one that the whole grid gives.
"""

from maple.config import command
from maple.core import storage
from maple.parts import parts, query
from maple.results import claims
from stages import confirm, part, plan_claims


def main(params, arguments):
    content = claims.load()
    claim = query.claim_named(content, arguments.claim)
    chosen = parts.chosen(parts.of_claim(claim, params, content["minimum_examples"]), arguments.part)
    if not params.is_smoke:
        plan_claims.main(params, claim["id"])
        confirm.ask(params)
    part.make(params, chosen)
    folder = params.work / "claims" / claim["id"] / chosen.choice
    results = part.results(params, chosen, folder)
    checked = [found for found in claims.check(content, results) if found.id == claim["id"]]
    storage.write_json(folder / "claims.json", claims.as_json(params.profile, checked))
    storage.write_text(folder / "claims.md", claims.as_markdown(checked, results.label))
    print(evidence(checked[0], chosen))
    print(f"all of it: {folder / 'claims.md'}")


def evidence(checked, chosen):
    """The verdict, and each comparison of ours behind it."""
    lines = [f"{checked.id}: {checked.statement}", f"on the paper's numbers: {checked.verdict('published')}"]
    lines += [f"on ours: {checked.verdict('ours')}"]
    if chosen.choice != parts.EXACT:
        lines.append(f"from the part {chosen.choice}, which gives up {chosen.gives_up}")
    for comparison in checked.ours:
        numbers = claims.figures(comparison)
        where = f"{numbers[0]} [{numbers[1]}, {numbers[2]}]" if numbers[1] else numbers[0]
        why = f" ({comparison.why})" if comparison.why else ""
        lines.append(f"  {comparison.text}, wanted {comparison.region.text}: {where}: {comparison.verdict}{why}")
    return "\n".join(lines)


if __name__ == "__main__":
    command.run(
        __doc__,
        main,
        claim="id of a claim in paper_tables/claims.yaml",
        part={"default": parts.EXACT, "help": f"what is run of it, as the plan names it (default: {parts.EXACT})"},
    )
