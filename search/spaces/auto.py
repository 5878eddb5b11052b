"""A classifier on hand-made features, probes, fine-tuning and training from scratch in one space.

What is worth trying depends on the images, on the pretrained weights that are available and, with a
budget of time, on the time that an epoch of each network takes. The first trials are the most
promising ones of each kind, the fastest kinds first: so there is an early answer, which every later
kind has to beat.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from search.space import Cases, Choice, Domain, Float, SearchSpace
from search.spaces.circumstances import Circumstances
from search.spaces.probe import PROBES
from trainables.catalog.models import MODELS
from trainables.catalog.networks import number_used
from trainables.errors import ConfigError
from trainables.values import Params

FOR = (
    "Images in classes, if you are unsure: quick answers first, then what data, weights and time "
    "allow."
)
DEFAULT_FOR = ("classification",)

BASELINE = "svm"
TUNED = ("mobilenet_v2", "resnet18", "squeezenet1_0")
"""Networks that are fine-tuned, roughly from the most promising on."""
SMALL, LARGE = ("deep_cnn", "mnist_cnn"), ("resnet18", "mobilenet_v3_small")
"""Networks that are trained from scratch: on small images as they are, and on larger ones, which
they resize.
"""
SPREADING = tuple(name.replace("probe_", "spread_") for name in PROBES)
"""Probes that also learn from images without labels."""
PSEUDO_LABELLED = tuple(f"pseudo_{name}" for name in TUNED)
"""Networks that are fine-tuned on images without labels, too."""
MODELS_TRIED = tuple(
    dict.fromkeys((BASELINE, *PROBES, *SPREADING, *TUNED, *PSEUDO_LABELLED, *SMALL, *LARGE))
)

SMALL_SIDE = 64
"""Images with a longer side, in pixels, are too large for networks that do not resize them."""
SIDES = (64, 96, 128, 160, 224)
FIRST_SIDE = 128
"""The largest side in the first trials, except for one probe; later trials may use larger ones."""
FIRST_SHARE, FEATURES_SHARE, TRAINING_SHARE = 0.65, 0.3, 0.5
"""The largest shares of the time that the features of the most promising probe, those of others,
and one training may take. The first one is for photographs, at sizes of at most `FIRST_SIDE`.

The smaller they are, the more trials can be compared; the larger, the larger images may be, and the
more epochs a training has.
"""
FEATURES_EPOCHS = 1 / 3
"""The time of a probe's features, in epochs of the same network."""
MOST_LABELS = 1000
"""With more labelled images, learning from others too gains nothing (docs/benchmarks.md)."""
FEW_IMAGES = 3000
"""The classifier on hand-made features is fitted to so few images in seconds."""
ONE_FIT = (1, 1)
TUNED_EPOCHS, SCRATCH_EPOCHS = (3, 10), (6, 30)
"""The smallest and the largest number of epochs of a training, with and without trained weights.

With fewer epochs than the smallest number, a training would hardly beat the faster kinds.
"""
GOOD_EPOCHS = 6
"""The first trial of a network uses the largest images for which it has this many epochs."""
BATCHES, LEAST_BATCH, FIRST_BATCH = (16, 32, 64), 2, 32
FIRST_TUNED = {
    "model.freeze": "nothing",
    "optimizer.lr": 3e-3,
    "optimizer.backbone_lr": 3e-4,
}
FIRST_SHAPES = {
    "deep_cnn": {"model.layers": 10, "model.width": 16},
    "mnist_cnn": {"model.width": 32},
}
"""The settings with which the first trials begin; the rest of the space is around them."""
TRIALS = 40
COMBINED = 5
"""The number of trials whose predictions are averaged if there are few validation images."""


@dataclass(frozen=True)
class TriedModel:
    """A model of the space with one size of its images."""

    name: str
    side: int | None
    """The height and width, in pixels, to which it resizes images; None if it does not."""
    epochs: int
    """The number of epochs that the time allows; 1 for a fit."""

    @property
    def params(self) -> Params:
        """The params that make a trial one of this candidate."""
        side = {} if self.side is None else {"model.input_size": self.side}
        return {"model.name": self.name, **side}


def space() -> SearchSpace:
    """Return the space for data that is not known yet."""
    return space_for(Circumstances())


def space_for(facts: Circumstances) -> SearchSpace:
    """Return the space for these circumstances.

    If the time is too short for every other model, the classifier on hand-made features remains. If
    the user has chosen a model, it is searched however long it takes.

    Raises:
        ConfigError: the user's model is none of this space, or has no weights.
    """
    _check_fixed_model(facts)
    probes, tuned, scratch = (
        [each for each in kind if facts.fixed.get("model.name", each.name) == each.name]
        for kind in (_probes(facts), _tuned(facts), _scratch(facts))
    )
    networks = [*probes, *tuned, *scratch]
    names = _names([*_hand_made(facts, has_others=bool(networks)), *networks])
    batches = [size for size in BATCHES if size <= facts.images] or [
        max(LEAST_BATCH, min(facts.images, BATCHES[0]))
    ]
    usual = {
        "optimizer.weight_decay": 1e-4,
        "batch_size": min(FIRST_BATCH, batches[-1]),
        "augment.crop": 4,
        **({"augment.flip": facts.are_photographs} if facts.can_flip else {}),
    }
    probing = [each.params | {"model.c": 1e-3} for each in [*_first_of(probes), *_widest(probes)]]
    tuning = [each.params | FIRST_TUNED | usual for each in _first_of(tuned)]
    training = [
        each.params | FIRST_SHAPES.get(each.name, {}) | {"optimizer.lr": 1e-3} | usual
        for each in _first_of(scratch)
    ]
    pretrained = [*probing, *tuning]
    first = [*pretrained, *training] if facts.are_photographs else [*training, *pretrained]
    fitting = [{"model.name": BASELINE, "model.features": "hog", "model.c": 10.0}]
    domains = _domains(facts, names, probes, tuned, scratch, batches)
    return SearchSpace(
        {path: domain for path, cases in domains.items() if (domain := _joined(cases, names))},
        base={"optimizer.name": "adamw", "optimizer.schedule": "cosine"},
        trials=TRIALS,
        first=[*(fitting if BASELINE in names else []), *first],
        combine=COMBINED,
    )


def _domains(
    facts: Circumstances,
    names: tuple[str, ...],
    probes: Sequence[TriedModel],
    tuned: Sequence[TriedModel],
    scratch: Sequence[TriedModel],
    batches: Sequence[int],
) -> dict[str, list[Domain]]:
    """Return the cases of each parameter, some of them for models that are not in the space."""
    is_probe, is_tuned, is_scratch, is_network = (
        {"model.name": _names(kind)} for kind in (probes, tuned, scratch, [*tuned, *scratch])
    )
    return {
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
        "batch_size": [Choice(*batches, when=is_network)],
        "augment.crop": [Choice(0, 4, when=is_network)],
        "augment.flip": [Choice(False, True, when=is_network)] if facts.can_flip else [],
    }


def _check_fixed_model(facts: Circumstances) -> None:
    """Check that the model that the user has chosen can be searched in this space.

    Raises:
        ConfigError: it cannot.
    """
    if (name := facts.fixed.get("model.name")) is None or name not in MODELS:
        return  # an unknown model is refused elsewhere
    if name not in MODELS_TRIED:
        raise ConfigError(
            f"--space auto does not try the model '{name}'. Use another space, such as zoo, or one "
            f"of its models: {', '.join(MODELS_TRIED)}."
        )
    is_large = facts.side > SMALL_SIDE
    if name in (SMALL if is_large else ()):
        raise ConfigError(
            f"--space auto does not train {name} on images of more than {SMALL_SIDE} pixels a "
            "side. Make them smaller with --set data.image_size=64, or use another space."
        )
    needs_weights = name not in (BASELINE, *SMALL, *(LARGE if is_large else ()))
    if needs_weights and not facts.has_weights(MODELS[name].source or name):
        raise ConfigError(
            f"--space auto uses {name} with pretrained weights, and none are available. Use "
            "--download, or --weights FOLDER."
        )


def _hand_made(facts: Circumstances, *, has_others: bool) -> list[TriedModel]:
    """Return the classifier on hand-made features, unless its fit takes too much of the time."""
    if facts.fixed.get("model.name", BASELINE) != BASELINE:
        return []
    is_fast = facts.images <= FEW_IMAGES or facts.epochs(
        facts.cpu_epoch_s(BASELINE), None, FEATURES_SHARE, ONE_FIT
    )
    return [TriedModel(BASELINE, None, 1)] if is_fast or not has_others else []


def _probes(facts: Circumstances) -> list[TriedModel]:
    """Return the probes whose features can be computed in the time, at least with small images.

    If there are images without labels and few with labels, probes that learn from all of them
    follow.
    """
    fixed_name = facts.fixed.get("model.name")
    candidates = []
    available = [name for name in PROBES if facts.has_weights(MODELS[name].source)]

    def share_of(name: str, side: int) -> float:
        """Return the largest share of the time that the features of a probe may take."""
        is_first = facts.are_photographs and name in available[:1] and side <= FIRST_SIDE
        return FIRST_SHARE if is_first else FEATURES_SHARE

    for name in (*PROBES, *_using_unlabelled(SPREADING, facts)):
        network, more = MODELS[name].source, facts.unlabelled if name in SPREADING else 0
        if facts.has_weights(network):
            epoch_s = facts.cpu_epoch_s(network) * (1 + more / facts.images)
            candidates += [
                TriedModel(name, side, 1)
                for side in _possible_sides(facts)
                if fixed_name == name
                or facts.epochs(epoch_s, side, share_of(name, side) / FEATURES_EPOCHS, ONE_FIT)
            ]
    return candidates


def _tuned(facts: Circumstances) -> list[TriedModel]:
    """Return the networks to be fine-tuned, with each size for which there is enough time.

    If there are images without labels and few with labels, those that use them too follow.
    """
    sides = _possible_sides(facts)
    return [
        each
        for name in (*TUNED, *_using_unlabelled(PSEUDO_LABELLED, facts))
        if facts.has_weights(MODELS[name].source or name)
        for each in _trainings(name, sides, TUNED_EPOCHS, facts)
    ]


def _using_unlabelled(names: tuple[str, ...], facts: Circumstances) -> tuple[str, ...]:
    """Return the models that use images without labels, or none if these would not help."""
    has_few_labels = facts.unlabelled and facts.images <= MOST_LABELS
    return names if has_few_labels or facts.fixed.get("model.name") in names else ()


def _scratch(facts: Circumstances) -> list[TriedModel]:
    """Return the networks to be trained from scratch for which there is enough time.

    None of them has pretrained weights, which are a better start.
    """
    is_small = facts.side <= SMALL_SIDE
    sides = [None] if is_small else _possible_sides(facts)
    return [
        each
        for name in (SMALL if is_small else LARGE)
        if name in SMALL or not facts.has_weights(name)
        for each in _trainings(name, sides, SCRATCH_EPOCHS, facts)
    ]


def _possible_sides(facts: Circumstances) -> Sequence[int]:
    """Return the sizes of images to choose from; only the user's, if there is one."""
    fixed = facts.fixed.get("model.input_size")
    return SIDES if fixed is None else (fixed,)


def _trainings(
    name: str, sides: Iterable[int | None], limits: tuple[int, int], facts: Circumstances
) -> Iterator[TriedModel]:
    """Yield a network with each size for which the time allows enough epochs.

    The network that the user has chosen is trained for the smallest number of epochs at least.
    """
    fixed_name = facts.fixed.get("model.name")
    if fixed_name not in (None, name):
        return
    epoch_s = facts.epoch_s(MODELS[name].source or name)
    if MODELS[name].extended_by:
        epoch_s *= 1 + number_used(facts.unlabelled) / facts.images
    for side in sides:
        epochs = facts.epochs(epoch_s, side, TRAINING_SHARE, limits)
        if epochs or fixed_name:
            yield TriedModel(name, side, epochs or limits[0])


def _first_of(candidates: Sequence[TriedModel]) -> list[TriedModel]:
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


def _widest(probes: Sequence[TriedModel]) -> list[TriedModel]:
    """Return the first probe with the largest images, if its first trial has smaller ones."""
    return [
        each
        for each in [probe for probe in probes if probe.name == probes[0].name][-1:]
        if each not in _first_of(probes)
    ]


def _names(candidates: Iterable[TriedModel]) -> tuple[str, ...]:
    """Return the names of the models, each once."""
    return tuple(dict.fromkeys(each.name for each in candidates))


def _sides(candidates: Sequence[TriedModel]) -> list[Domain]:
    """Return the sizes of each model that resizes its images."""
    return [
        Choice(*sides, when={"model.name": name})
        for name in _names(candidates)
        if (sides := [each.side for each in candidates if each.name == name and each.side])
    ]


def _epochs(candidates: Sequence[TriedModel]) -> list[Domain]:
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
    usable = [case for case in cases if _is_for_any(case, models)]
    return (usable[0] if len(usable) == 1 else Cases(*usable)) if usable else None


def _is_for_any(case: Domain, models: Iterable[str]) -> bool:
    names = case.when.get("model.name")
    if names is None:
        return True
    return not set(names if isinstance(names, tuple) else (names,)).isdisjoint(models)
