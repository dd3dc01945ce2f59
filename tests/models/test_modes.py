import pytest
from torch import nn

from robust_hub.models.modes import eval_mode


def test_modes_are_restored_module_by_module_and_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(3), nn.Sequential(nn.Dropout())).train()
    model[1].eval()
    before = [module.training for module in model.modules()]
    with eval_mode(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before == [True, True, False, True, True]
    with pytest.raises(RuntimeError, match="inside"), eval_mode(model):
        raise RuntimeError("inside")
    assert [module.training for module in model.modules()] == before
