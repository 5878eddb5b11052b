from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from trainables.robustness.attacks import attack, classifier_of
from trainables.robustness.stress_tests import ATTACKS, AttackBudget

METHODS = ("fgsm", "pgd", "square")
each_method = pytest.mark.parametrize("method", METHODS)


class Scaled(nn.Module):
    """Maps images with pixels from 0 to 255 to class probabilities, as a task's module does."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images.permute(0, 3, 1, 2).float() / 255).double().softmax(dim=1)


class Rounded(nn.Module):
    """A network that hides its gradients: it rounds its input, which has no derivative."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, images):
        return self.module((images / 16).round() * 16)


@cache
def digits():
    pixels, classes = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels.reshape(-1, 8, 8, 1) / 16).float()
    return images, torch.from_numpy(classes)


@cache
def trained():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )
    images, classes = digits()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(60):
        loss = nn.functional.cross_entropy(network(images[:800].permute(0, 3, 1, 2)), classes[:800])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Scaled(network).eval()


def budget_of(method, epsilon, **limits):
    steps = {"fgsm": 1, "pgd": 10, "square": 100}[method]
    return AttackBudget(method=method, epsilon=epsilon, **{"steps": steps, **limits})


def accuracy_under(module, method, epsilon, count=100, **limits):
    classify = classifier_of(module)
    images, classes = (part[-count:] for part in digits())
    changed = attack(classify, images, classes, budget_of(method, epsilon, **limits), range(count))
    with torch.no_grad():
        return (classify(changed).argmax(dim=1) == classes).float().mean().item()


@each_method
def test_a_change_stays_within_its_limit_and_within_the_range_of_pixels(method):
    images, classes = (part[-40:] for part in digits())
    changed = attack(classifier_of(trained()), images, classes, budget_of(method, 0.1), range(40))
    assert (changed - images).abs().max().item() <= 0.1 + 1e-6
    assert (changed - images).abs().max().item() > 0.05
    assert changed.min() >= 0
    assert changed.max() <= 1


@each_method
def test_no_budget_changes_nothing(method):
    images, classes = (part[-10:] for part in digits())
    changed = attack(classifier_of(trained()), images, classes, budget_of(method, 0.0), range(10))
    assert torch.equal(changed, images)


@each_method
def test_an_attack_lowers_the_accuracy_the_more_the_larger_its_budget(method):
    clean = accuracy_under(trained(), method, 0.0)
    weak, strong = (accuracy_under(trained(), method, epsilon) for epsilon in (0.05, 0.2))
    assert clean > 0.85
    assert clean > weak > strong


@pytest.mark.parametrize("epsilon", [0.03, 0.06, 0.1])
def test_pgd_is_at_least_as_strong_as_fgsm_and_restarts_help(epsilon):
    fgsm, pgd = (accuracy_under(trained(), method, epsilon) for method in ("fgsm", "pgd"))
    assert pgd <= fgsm
    assert accuracy_under(trained(), "pgd", epsilon, restarts=3) <= pgd


@each_method
def test_the_other_images_of_a_batch_do_not_matter(method):
    classify, budget = classifier_of(trained()), budget_of(method, 0.08, restarts=2)
    images, classes = (part[-12:] for part in digits())
    together = attack(classify, images, classes, budget, range(12))
    alone = attack(classify, images[5:6], classes[5:6], budget, [5])
    torch.testing.assert_close(together[5:6], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["pgd", "square"])
def test_another_seed_gives_another_start(method):
    classify, budget = classifier_of(trained()), budget_of(method, 0.02)
    images, classes = (part[-12:] for part in digits())
    first, second = (attack(classify, images, classes, budget, [seed] * 12) for seed in (1, 2))
    assert not torch.equal(first, second)


@each_method
def test_an_image_that_is_wrong_already_stays_as_it_is(method):
    classify = classifier_of(trained())
    images, classes = (part[-200:] for part in digits())
    wrong = classify(images).argmax(dim=1) != classes
    assert wrong.any()
    changed = attack(classify, images, classes, budget_of(method, 0.1), range(200))
    assert torch.equal(changed[wrong], images[wrong])


def test_an_attack_without_gradients_exposes_a_network_that_hides_them():
    hidden = Rounded(trained())
    by_gradient = accuracy_under(hidden, "pgd", 0.1)
    assert accuracy_under(hidden, "square", 0.1) < by_gradient
    assert accuracy_under(trained(), "square", 0.1) > accuracy_under(trained(), "pgd", 0.1)


def test_the_weights_get_no_gradients():
    images, classes = (part[-5:] for part in digits())
    module = trained()
    module.zero_grad()
    with torch.no_grad():  # as inside `load_model`
        attack(classifier_of(module), images, classes, budget_of("pgd", 0.1), range(5))
    assert all(weights.grad is None for weights in module.parameters())


def test_the_budgets_have_names_that_state_them():
    assert list(ATTACKS) == ["fgsm-2", "pgd-2", "square-2", "fgsm-8", "pgd-8", "square-8"]
    assert ATTACKS["pgd-8"].step_size == pytest.approx(2 / 255)
    assert np.isclose(ATTACKS["square-2"].epsilon, 2 / 255)
