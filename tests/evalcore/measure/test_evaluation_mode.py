"""A trainer's model is measured with no module in training mode, and every module is as it was after."""

import pytest
import torch
from torch import nn

from evalcore import evaluate_task
from evalcore.measure.evaluate import evaluate
from evalcore.measure.evaluation_mode import evaluation_mode
from tests.support.models import tokens_for
from tests.support.tasks import rows_of


class Trained(nn.Module):
    """Dropout that would move every number, a part for the trainer to freeze, and `train` of its own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.drop = nn.Embedding(257, 16), nn.Dropout(0.5)
        self.frozen, self.head = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.5)), nn.Linear(16, 257)
        self.switched = []

    def train(self, mode=True):
        self.switched.append(mode)
        return super().train(mode)

    def forward(self, tokens):
        return self.head(self.frozen(self.drop(self.embed(tokens))))


def flags(model):
    return [module.training for module in model.modules()]


def test_every_module_of_a_trainer_s_model_has_its_mode_back_and_none_trains_meanwhile():
    expected = evaluate(Trained().eval(), tokens_for(300), seq_len=32).loss
    model = Trained().train()
    model.frozen.eval()
    before, random_state = flags(model), torch.get_rng_state()
    assert evaluate(model, tokens_for(300), seq_len=32).loss == expected
    assert evaluate_task(model, rows_of("piqa", 4), "bytes", task="piqa", context_length=512).items == 4
    assert flags(model) == before and True in before and before.count(False) == 3
    assert model.switched[-2:] == [False, True]  # by the model's own methods, so that what they do besides is undone
    assert torch.equal(torch.get_rng_state(), random_state) and all(p.requires_grad for p in model.parameters())
    with pytest.raises(ZeroDivisionError), evaluation_mode(model):
        assert not any(flags(model))
        raise ZeroDivisionError
    assert flags(model) == before


def test_a_part_that_trains_below_a_wrapper_in_evaluation_mode_does_not_train_while_it_is_measured():
    """A trainer that calls `train()` on the model inside its DDP wrapper leaves the two in different modes."""
    wrapper = nn.Sequential(Trained()).eval()
    expected = evaluate(wrapper, tokens_for(300), seq_len=32).loss
    wrapper[0].train()
    before = flags(wrapper)
    assert evaluate(wrapper, tokens_for(300), seq_len=32).loss == expected
    assert flags(wrapper) == before and not before[0] and before[1]
