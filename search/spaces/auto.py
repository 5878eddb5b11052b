"""A classifier on hand-made features, probes, fine-tuning and training from scratch in one space.

What is worth trying depends on the images, on the pretrained weights that are available and, with a
budget of time, on the time that an epoch of each network takes. The first trials are the most
promising ones of each kind, the fastest kinds first: so there is an early answer, which every later
kind has to beat.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from search.space import Cases, Choice, Domain, Float, SearchSpace
from search.spaces.circumstances import Circumstances
from search.spaces.probe import PROBES
from trainables.catalog.models import MODELS
from trainables.values import Params

FOR = (
    "Images in classes, if you are unsure: first answers in seconds, then what data, weights and "
    "time allow."
)
DEFAULT_FOR = ("classification",)

BASELINE = "svm"
TUNED = ("mobilenet_v2", "resnet18", "squeezenet1_0")
"""Networks that are fine-tuned, roughly from the most promising on."""
SMALL, LARGE = ("deep_cnn", "mnist_cnn"), ("resnet18", "mobilenet_v3_small")
"""Networks that are trained from scratch: on small images as they are, and on larger ones, which
they resize.
"""

SMALL_SIDE = 64
"""Images with a longer side, in pixels, are too large for networks that do not resize them."""
SIDES = (64, 96, 128, 160, 224)
FIRST_SIDE = 128
"""The largest side in the first trials, except for one probe; later trials may use larger ones."""
FEATURES_SHARE, TRAINING_SHARE = 0.15, 0.4
"""The largest shares of the time that the features of one probe, and one training, may take.

The smaller they are, the more trials can be compared; the larger, the more epochs a training has.
"""
FEATURES_EPOCHS = 1 / 3
"""The time of a probe's features, in epochs of the same network."""
TUNED_EPOCHS, SCRATCH_EPOCHS = (3, 10), (6, 30)
"""The smallest and the largest number of epochs of a training, with and without trained weights.

With fewer epochs than the smallest number, a training would hardly beat the faster kinds.
"""
GOOD_EPOCHS = 6
"""The first trial of a network uses the largest images for which it has this many epochs."""
TRIALS = 40


@dataclass(frozen=True)
class Candidate:
    """A model of the space with one size of its images."""

    name: str
    side: int | None
    """The height and width, in pixels, to which it resizes images; None if it does not."""
    epochs: int
    """The number of epochs that the time allows."""

    @property
    def params(self) -> Params:
        """The params that make a trial one of this candidate."""
        side = {} if self.side is None else {"model.input_size": self.side}
        return {"model.name": self.name, **side}


def space() -> SearchSpace:
    """Return the space for data that is not known yet, from which nothing is left out."""
    return space_for(Circumstances())


def space_for(facts: Circumstances) -> SearchSpace:
    """Return the space for these circumstances.

    If the time is too short for every other model, the classifier on hand-made features remains.
    """
    probes, tuned, scratch = _probes(facts), _tuned(facts), _scratch(facts)
    hand_made = _hand_made(facts, has_others=bool([*probes, *tuned, *scratch]))
    names = _names([*hand_made, *probes, *tuned, *scratch])
    is_probe, is_tuned, is_scratch, is_network = (
        {"model.name": _names(kind)} for kind in (probes, tuned, scratch, [*tuned, *scratch])
    )
    probing = [each.params | {"model.c": 1e-3} for each in [*_first_of(probes), *_widest(probes)]]
    tuning = [
        each.params | {"optimizer.lr": 3e-3, "optimizer.backbone_lr": 3e-4, "batch_size": 32}
        for each in _first_of(tuned)
    ]
    training = [
        each.params | {"optimizer.lr": 1e-3, "batch_size": 32} for each in _first_of(scratch)
    ]
    pretrained = [*probing, *tuning]
    first = [*pretrained, *training] if facts.are_photographs else [*training, *pretrained]
    domains: dict[str, list[Domain]] = {
        "model.name": [Choice(*names)],
        "model.features": [Choice("hog", "all", when={"model.name": BASELINE})],
        "model.c": [
            Choice(1.0, 10.0, when={"model.name": BASELINE}),
            Choice(1e-4, 1e-3, 1e-2, 1e-1, when=is_probe),
        ],
        "model.input_size": _sides([*probes, *tuned, *scratch]),
        "epochs": _epochs([*tuned, *scratch]),
        "model.pretrained": [Choice(True, when=is_tuned)],
        "model.freeze": [Choice("nothing", "all_but_last_stage", when=is_tuned)],
        "model.layers": [Choice(5, 7, 10, when={"model.name": "deep_cnn"})],
        "model.width": [Choice(16, 32, 48, when={"model.name": SMALL})],
        "optimizer.lr": [
            Float(3e-4, 1e-2, log=True, when=is_tuned),
            Float(3e-4, 5e-3, log=True, when=is_scratch),
        ],
        "optimizer.backbone_lr": [Float(3e-5, 1e-3, log=True, when=is_tuned)],
        "optimizer.weight_decay": [Float(1e-5, 1e-2, log=True, when=is_network)],
        "batch_size": [Choice(16, 32, 64, when=is_network)],
        "augment.crop": [Choice(0, 4, when=is_network)],
        "augment.flip": [Choice(False, True, when=is_network)] if facts.can_flip else [],
    }
    return SearchSpace(
        {path: domain for path, cases in domains.items() if (domain := _joined(cases, names))},
        base={"optimizer.name": "adamw", "optimizer.schedule": "cosine"},
        trials=TRIALS,
        first=[
            *[each.params | {"model.features": "hog", "model.c": 10.0} for each in hand_made],
            *first,
        ],
    )


def _hand_made(facts: Circumstances, *, has_others: bool) -> list[Candidate]:
    """Return the classifier on hand-made features, unless its fit takes too much of the time."""
    is_fast = facts.epochs(BASELINE, None, FEATURES_SHARE, most=1)
    return [Candidate(BASELINE, None, 1)] if is_fast or not has_others else []


def _probes(facts: Circumstances) -> list[Candidate]:
    """Return the probes whose features can be computed in the time, at least with small images.

    If there are images without labels, those that learn from these too follow.
    """
    spreading = [name.replace("probe_", "spread_") for name in PROBES if facts.has_unlabelled]
    return [
        Candidate(name, side, 1)
        for name in (*PROBES, *spreading)
        for side in SIDES
        if facts.has_weights(network := MODELS[name].source)
        and facts.epochs(network, side, FEATURES_SHARE / FEATURES_EPOCHS, most=1)
    ]


def _tuned(facts: Circumstances) -> list[Candidate]:
    """Return the networks to be fine-tuned, with each size for which there is enough time."""
    return [
        each
        for name in TUNED
        if facts.has_weights(name)
        for each in _trainings(name, SIDES, TUNED_EPOCHS, facts)
    ]


def _scratch(facts: Circumstances) -> list[Candidate]:
    """Return the networks to be trained from scratch for which there is enough time.

    None of them has pretrained weights, which are a better start.
    """
    is_small = facts.side <= SMALL_SIDE
    return [
        each
        for name in (SMALL if is_small else LARGE)
        if name in SMALL or not facts.has_weights(name)
        for each in _trainings(name, [None] if is_small else SIDES, SCRATCH_EPOCHS, facts)
    ]


def _trainings(
    name: str, sides: Iterable[int | None], limits: tuple[int, int], facts: Circumstances
) -> Iterable[Candidate]:
    """Yield a network with each size for which the time allows enough epochs."""
    least, most = limits
    for side in sides:
        epochs = facts.epochs(name, side, TRAINING_SHARE, most)
        if epochs >= least:
            yield Candidate(name, side, epochs)


def _first_of(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return each model once, with the size that suits its first trial."""
    return [
        max(
            (each for each in candidates if each.name == name),
            key=lambda each: (
                (each.side or 0) <= FIRST_SIDE,
                min(each.epochs, GOOD_EPOCHS),
                each.side or 0,
            ),
        )
        for name in _names(candidates)
    ]


def _widest(probes: Sequence[Candidate]) -> list[Candidate]:
    """Return the first probe with the largest images, if its first trial has smaller ones."""
    return [
        each
        for each in [probe for probe in probes if probe.name == probes[0].name][-1:]
        if each not in _first_of(probes)
    ]


def _names(candidates: Iterable[Candidate]) -> tuple[str, ...]:
    """Return the names of the models, each once."""
    return tuple(dict.fromkeys(each.name for each in candidates))


def _sides(candidates: Sequence[Candidate]) -> list[Domain]:
    """Return the sizes of each model that resizes its images."""
    return [
        Choice(*sides, when={"model.name": name})
        for name in _names(candidates)
        if (sides := [each.side for each in candidates if each.name == name and each.side])
    ]


def _epochs(candidates: Sequence[Candidate]) -> list[Domain]:
    """Return the number of epochs of each training, which depends on the size of its images."""
    sides: dict[tuple[str, int], list[int | None]] = {}
    for each in candidates:
        sides.setdefault((each.name, each.epochs), []).append(each.side)
    return [
        Choice(
            epochs,
            when={"model.name": name}
            | ({} if None in with_sides else {"model.input_size": tuple(with_sides)}),
        )
        for (name, epochs), with_sides in sides.items()
    ]


def _joined(cases: Iterable[Domain], models: Iterable[str]) -> Domain | None:
    """Join the cases of a parameter that exist for any of the models; None if there is none."""
    left = [case for case in cases if _is_for_any(case, models)]
    return (left[0] if len(left) == 1 else Cases(*left)) if left else None


def _is_for_any(case: Domain, models: Iterable[str]) -> bool:
    names = case.when.get("model.name")
    if names is None:
        return True
    return not set(names if isinstance(names, tuple) else (names,)).isdisjoint(models)
