"""Figures 1 to 4 of the paper: one module each, with `rows` (the plotted numbers) and `draw` (numbers to picture).

A figure is drawn from its rows alone, so the CSV beside it holds everything that it shows. `write_all` writes
<name>.csv, <name>.svg, <name>.png and <name>.txt (the text alternative, also inside the SVG).
"""

from pathlib import Path

from maple import record
from maple.figures import figure1, figure2, figure3, figure4, style
from maple.figures.picture import Picture
from maple.figures.scored import Scored


def pictures(scored: Scored, published: figure2.Published, best: str) -> list[Picture]:
    """The four figures from our records, and Figure 2 from the published Table 1; `best` is `tables.best`."""
    return [
        figure1.picture(scored),
        figure2.picture(scored, published, best),
        figure2.published_picture(published),
        figure3.picture(scored, best),
        figure4.picture(scored, best),
    ]


def write_all(pictures: list[Picture], folder: Path, profile: str) -> list[str]:
    """Write every picture into `folder`, whole or not at all; returns the names of the figures."""
    smoke = profile == "smoke"
    with record.folder(folder) as part:
        for picture in pictures:
            text = f"{style.SMOKE}. {picture.text}" if smoke else picture.text
            record.write_text(part / f"{picture.name}.csv", picture.csv("SMOKE" if smoke else None))
            record.write_text(part / f"{picture.name}.txt", f"{picture.title}\n\n{text}\n")
            style.save(picture.draw, part / picture.name, picture.title, text, smoke)
    return [picture.name for picture in pictures]
