"""Figures 1 to 4 of the paper: one module each, with `rows` (the plotted numbers) and `draw` (numbers to picture).

A figure is drawn from its rows alone, so the CSV beside it holds everything that it shows. `write_all` writes
<name>.csv, <name>.svg, <name>.png and <name>.txt (the text alternative, also inside the SVG).
"""

from pathlib import Path

from maple.core import storage
from maple.figures import figure1, figure2, figure3, figure4, style
from maple.figures.picture import Picture
from maple.results.tables import Results


def pictures(results: Results, published: figure2.Published) -> list[Picture]:
    """The four figures from our records, and Figure 2 from the published Table 1."""
    return [
        figure1.picture(results),
        figure2.picture(results, published),
        figure2.published_picture(published, results.chances),
        figure3.picture(results),
        figure4.picture(results),
    ]


def write_all(pictures: list[Picture], folder: Path, label: str | None) -> list[str]:
    """Write every picture into `folder`, whole or not at all, with the label on each; returns their names."""
    with storage.folder(folder) as part:
        for picture in pictures:
            text = f"{label}. {picture.text}" if label else picture.text
            storage.write_text(part / f"{picture.name}.csv", picture.csv(label.split(":")[0] if label else None))
            storage.write_text(part / f"{picture.name}.txt", f"{picture.title}\n\n{text}\n")
            style.save(picture.draw, part / picture.name, picture.title, text, label)
    return [picture.name for picture in pictures]
