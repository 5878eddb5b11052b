"""python -m search.compare A B ...: compare the results of searches, and show what they differ in.

It reports whether the differences are larger than noise: over the fresh seeds of search.select or
over folds if all searches have them, else on the validation images. The best of many trials is
partly lucky; the comparison accounts for this.
"""

import json
from dataclasses import asdict, dataclass

from search.cli.face import Face
from search.operations.compare import CompareRequest, compare
from search.values.option import flag, group
from search.views.comparison_table import comparison_rows, comparison_table, contrast_sentence
from search.views.terminal import Terminal, say


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The options of the command line."""

    request: CompareRequest = group(CompareRequest)
    json: bool = flag("print one JSON object")


def command(options: CompareOptions) -> int:
    """Print the searches side by side, and return the exit code."""
    compared = compare(options.request)
    if options.json:
        print(json.dumps(asdict(compared.comparison)))
        return 0
    console, contrasts = Terminal(), compared.comparison.contrasts
    rows = comparison_rows(compared.comparison, compared.results)
    console.print(comparison_table(rows), markup=False)
    console.print()
    metrics = {result.name: result.metric for result in compared.results}
    for contrast in contrasts:
        say(console, contrast_sentence(contrast, metrics[contrast.leader]))
    if any(contrast.by == "images" for contrast in contrasts):
        say(
            console,
            "The best of many trials is the best partly by chance. The comparison accounts for "
            "this, but the intervals in the table do not. To detect smaller differences, train the "
            "best few trials again with search.select.",
        )
    return 0


FACE = Face("compare", CompareOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
